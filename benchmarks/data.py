"""How fast images are delivered for training, next to the disk's own speed.

python -m benchmarks.data [--images 50000] [--batch 128] [--threads 2]

Random 64x64 images are prepared in a temporary folder. "pipeline" is what training calls: shuffled,
half of them mirrored, uint8 batches. "gather" is a plain NumPy gather from the memory map, the
ceiling.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.data import batches
from diffusion_jax.data.cache import CachedSource, CacheWriter, Description
from scripts import cli

_IMAGES = flags.DEFINE_integer("images", 50_000, "In the dataset.", 1)
_BATCH = flags.DEFINE_integer("batch", 128, "Images in a batch.", 1)
_THREADS = flags.DEFINE_integer("threads", 2, "That read ahead.", 1)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "For each figure.", 0.1)
SHAPE = (64, 64, 3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = make_dataset(Path(folder) / "random")
        stream = batches(source, batch_size=_BATCH.value, seed=0, flip=True, threads=_THREADS.value)
        for name, iterator in {"pipeline": stream, "gather": gather(source)}.items():
            print(f"{name:>10}  {images_per_second(iterator):>10,.0f} images/s")


def make_dataset(folder: Path) -> CachedSource:
    generator = np.random.default_rng(0)
    with CacheWriter(folder, Description("random", "train", SHAPE, ["one"])) as writer:
        for first in range(0, _IMAGES.value, 5000):
            count = min(5000, _IMAGES.value - first)
            images = generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
            writer.write(str(first), [(images, np.zeros(count, np.int32))])
        writer.finish()
    return CachedSource(folder)


def gather(source: CachedSource) -> Iterator[dict]:
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(len(source))
        for first in range(0, len(source) - _BATCH.value + 1, _BATCH.value):
            yield source.read(order[first : first + _BATCH.value])


def images_per_second(iterator: Iterator[dict]) -> float:
    """Once the first hundred batches have come."""
    for _ in itertools.islice(iterator, 100):
        pass
    start = time.perf_counter()
    seen = 0
    while (passed := time.perf_counter() - start) < _SECONDS.value:
        seen += len(next(iterator)["label"])
    return seen / passed


if __name__ == "__main__":
    cli.run(main)
