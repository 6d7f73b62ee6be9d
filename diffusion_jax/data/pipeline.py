"""The order of training examples: reshuffled every epoch, a function of seed and step only."""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from diffusion_jax.data.cache import Batch
from diffusion_jax.data.crops import RandomResizedCrop
from diffusion_jax.data.sources import Source


class Order:
    """Order of the training examples, and the choice of mirrored images.

    All machines share one stream of indices: each epoch is a permutation of all images, and epochs
    follow one another without a gap (a batch may span two). The position in the stream, the number
    of images before it, is the complete state. Mirroring depends on seed, epoch and image.

    size: images in the dataset. batch_size: global. drop_last: end each epoch with its last full
    batch; different images are left out each time. Raises ValueError if there is no full batch.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, *, flip: bool = False, drop_last: bool = False
    ):
        check_size(size, batch_size, drop_last=drop_last)
        self.size, self.batch_size, self.seed, self.flip = size, batch_size, seed, flip
        self.length = size // batch_size * batch_size if drop_last else size  # images per epoch
        # A batch spans one or two epochs, and threads may be a few batches apart.
        self._epoch = lru_cache(maxsize=4)(self._draw_epoch)

    def at(
        self, position: int
    ) -> tuple[Int[np.ndarray, "batch"], Int[np.ndarray, "batch"], Bool[np.ndarray, "batch"]]:
        """Returns (indices, epochs, mirrored) of the batch that starts at `position`."""
        indices, epochs, mirrored = [], [], []
        first, last = position, position + self.batch_size
        for epoch in range(first // self.length, (last - 1) // self.length + 1):
            start = epoch * self.length
            permutation, mirrors = self._epoch(epoch)
            part = permutation[max(first - start, 0) : min(last - start, self.length)]
            indices.append(part)
            epochs.append(np.full(len(part), epoch))
            mirrored.append(mirrors[part])
        return np.concatenate(indices), np.concatenate(epochs), np.concatenate(mirrored)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([self.seed, epoch])
        permutation = generator.permutation(self.size)
        mirrors = np.zeros(self.size, bool)
        if self.flip:
            mirrors = generator.integers(2, size=self.size, dtype=np.uint8).astype(bool)
        return permutation, mirrors


def check_size(size: int, batch_size: int, *, drop_last: bool) -> None:
    """Raises ValueError if an epoch of `size` images would have no batch."""
    if drop_last and size < batch_size:
        raise ValueError(
            f"{size} images are fewer than batch_size={batch_size}; set data.drop_last=False"
        )


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    flip: bool = False,
    drop_last: bool = False,
    crop: RandomResizedCrop | None = None,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Iterator[Batch]:
    """Yields batches endlessly from position `start`: uint8 images, some mirrored, and labels.

    Each process reads only its own rows of each batch (see `Order`), in the order of the
    processes.

    Args:
        batch_size: global, divisible by process_count.
        crop: applied to each image with random numbers derived from seed, epoch and image.
        threads: number of prefetching threads.
    """
    order = Order(len(source), batch_size, seed, flip=flip, drop_last=drop_last)
    rows = batch_size // process_count
    own = slice(process_index * rows, (process_index + 1) * rows)

    def read(number: int) -> Batch:
        indices, epochs, mirrored = order.at(start + number * batch_size)
        batch = source.read(indices[own])
        if crop:
            keys = zip(epochs[own].tolist(), indices[own].tolist())
            generators = [np.random.default_rng([seed, epoch, index, 1]) for epoch, index in keys]
            batch["image"] = crop(batch["image"], generators)
        mirrored = mirrored[own]
        if mirrored.any():
            batch["image"][mirrored] = batch["image"][mirrored][:, :, ::-1]
        return batch

    executor = ThreadPoolExecutor(threads, thread_name_prefix="data")
    try:
        pending = deque(executor.submit(read, number) for number in range(2 * threads))
        for number in itertools.count(len(pending)):
            batch = pending.popleft().result()
            pending.append(executor.submit(read, number))
            yield batch
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
