"""The order of training examples: shuffled each epoch, a function of seed and step alone."""

from collections.abc import Iterator

import grain
import numpy as np

from diffusion_jax.data.sources import Batch, Source


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Iterator[Batch]:
    """Endless batches, from that of step `start_step` on.

    One stream of indices serves all machines: each epoch is one permutation of the whole source,
    epochs follow one another without a gap (a batch may span two), and batch `step` is always the
    same. Of it, every process reads only its own rows, in the order of the processes.

    batch_size: global, divisible by process_count. threads: that read and decode ahead.
    """
    rows = batch_size // process_count
    first = process_index * rows

    def read(indices: np.ndarray) -> Batch:
        return source.read(np.asarray(indices)[first : first + rows])

    order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    dataset = order.batch(batch_size).map(read)[start_step:]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(dataset.to_iter_dataset(options))
