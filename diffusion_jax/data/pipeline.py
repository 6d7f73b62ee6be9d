"""The order of training examples: shuffled each epoch, a function of seed and step alone."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from diffusion_jax.data.sources import Batch, Source


class Order:
    """Which images make up the batch of a step, and which of them are mirrored.

    One stream of indices serves all machines: each epoch is one permutation of all images, epochs
    follow one another without a gap (a batch may span two), and the batch of a step is always the
    same. Whether an image is mirrored depends on seed, epoch and image.

    size: images in the dataset. batch_size: global.
    """

    def __init__(self, size: int, batch_size: int, seed: int, *, flip: bool = False):
        self.size, self.batch_size, self.seed, self.flip = size, batch_size, seed, flip
        # A batch needs one epoch, or the two that it spans; threads may be a few batches apart.
        self._epoch = lru_cache(maxsize=4)(self._draw_epoch)

    def at(self, step: int) -> tuple[Int[np.ndarray, "batch"], Bool[np.ndarray, "batch"]]:
        """(indices, mirrored) of the batch of `step`, counted from 0."""
        indices, mirrored = [], []
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        for epoch in range(first // self.size, (last - 1) // self.size + 1):
            start = epoch * self.size
            permutation, mirrors = self._epoch(epoch)
            part = permutation[max(first - start, 0) : last - start]
            indices.append(part)
            mirrored.append(mirrors[part])
        return np.concatenate(indices), np.concatenate(mirrored)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([self.seed, epoch])
        permutation = generator.permutation(self.size)
        mirrors = np.zeros(self.size, bool)
        if self.flip:
            mirrors = generator.integers(2, size=self.size, dtype=np.uint8).astype(bool)
        return permutation, mirrors


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    flip: bool = False,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Iterator[Batch]:
    """Endless batches, from that of step `start_step` on: uint8 images, some mirrored, and labels.

    Of each batch, see `Order`, every process reads only its own rows, in the order of the
    processes. batch_size: global, divisible by process_count. threads: that read and decode ahead.
    """
    order = Order(len(source), batch_size, seed, flip=flip)
    rows = batch_size // process_count
    own = slice(process_index * rows, (process_index + 1) * rows)

    def read(step: int) -> Batch:
        indices, mirrored = order.at(step)
        batch = source.read(indices[own])
        mirrored = mirrored[own]
        if mirrored.any():
            batch["image"][mirrored] = batch["image"][mirrored][:, :, ::-1]
        return batch

    executor = ThreadPoolExecutor(threads, thread_name_prefix="data")
    try:
        ahead = deque(executor.submit(read, start_step + i) for i in range(2 * threads))
        step = start_step + len(ahead)
        while True:
            batch = ahead.popleft().result()
            ahead.append(executor.submit(read, step))
            step += 1
            yield batch
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
