"""Speed of the data pipeline, compared with a plain gather and with other loaders.

python -m benchmarks.data [--images 50000] [--batch 128] [--threads 2] [--others]

Random 64x64 images are prepared in a temporary folder. "pipeline" is the pipeline of training:
shuffled, half of the images mirrored, uint8 batches. "gather" is a plain NumPy gather from the
memory map, the upper limit. With --others, the same images are also written as a tfds dataset (PNG)
and read, shuffled and mirrored, by tf.data and by Grain, which needs pip install grain -r
requirements-tfds.txt.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from diffusion_jax.data import batches
from diffusion_jax.data.cache import CachedSource, Description
from diffusion_jax.data.cache_writer import CacheWriter
from scripts.cli import app

_IMAGES = flags.DEFINE_integer("images", 50_000, "Images in the dataset.", 1)
_BATCH = flags.DEFINE_integer("batch", 128, "Images in a batch.", 1)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads that read ahead.", 1)
_SECONDS = flags.DEFINE_float("seconds", 5.0, "For each figure.", 0.1)
_OTHERS = flags.DEFINE_bool("others", False, "Measure tfds with tf.data and with Grain, too.")
SHAPE = (64, 64, 3)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = make_dataset(Path(folder) / "random")
        stream = batches(source, batch_size=_BATCH.value, seed=0, flip=True, threads=_THREADS.value)
        show("pipeline", stream)
        show("gather", gather(source))
        if _OTHERS.value:
            for name, iterator in others(source, folder):
                show(name, iterator)


def show(name: str, iterator: Iterator) -> None:
    print(f"{name:>16}  {images_per_second(iterator):>10,.0f} images/s", flush=True)


def make_dataset(folder: Path) -> CachedSource:
    generator = np.random.default_rng(0)
    parts = {str(first): first for first in range(0, _IMAGES.value, 5000)}
    description = Description("random", "train", SHAPE, ["one"])
    with CacheWriter(folder, description, list(parts)) as writer:
        for name, first in parts.items():
            count = min(5000, _IMAGES.value - first)
            # Blocks of color with a little noise: compressed by PNG about as much as photographs.
            blocks = generator.integers(0, 240, (count, 16, 16, 3), dtype=np.uint8)
            noise = generator.integers(0, 16, (count, *SHAPE), dtype=np.uint8)
            images = blocks.repeat(4, axis=1).repeat(4, axis=2) + noise
            writer.write(name, [(images, np.zeros(count, np.int32))])
        writer.finish()
    return CachedSource(folder)


def gather(source: CachedSource) -> Iterator[dict]:
    generator = np.random.default_rng(0)
    while True:
        order = generator.permutation(len(source))
        for first in range(0, len(source) - _BATCH.value + 1, _BATCH.value):
            yield source.read(order[first : first + _BATCH.value])


def others(source: CachedSource, folder: str) -> Iterator[tuple[str, Iterator]]:
    """Yields loaders of the same images through tfds."""
    import grain
    import tensorflow as tf
    import tensorflow_datasets as tfds

    class RandomImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(shape=SHAPE), "label": tf.int64}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index in range(len(source)):
                yield index, {"image": source.read(np.array([index]))["image"][0], "label": 0}

    def prepared(file_format):
        builder = RandomImages(data_dir=f"{folder}/{file_format}", file_format=file_format)
        builder.download_and_prepare()
        return builder

    def flip_tf(example):
        return example | {"image": tf.image.random_flip_left_right(example["image"])}

    class Flip(grain.transforms.RandomMap):
        def random_map(self, example, generator):
            mirrored = generator.integers(2)
            return example | {"image": example["image"][:, :: -1 if mirrored else 1]}

    stream = prepared("tfrecord").as_dataset(split="train", shuffle_files=True).repeat()
    stream = stream.shuffle(10_000).map(flip_tf, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.batch(_BATCH.value, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    yield "tfds + tf.data", stream.as_numpy_iterator()
    records = prepared("array_record").as_data_source(split="train")
    stream = grain.MapDataset.source(records).seed(0).shuffle().random_map(Flip()).repeat()
    stream = stream.batch(_BATCH.value).to_iter_dataset()
    yield "tfds + Grain", iter(stream)


def images_per_second(iterator: Iterator[dict]) -> float:
    """Measures the speed after the first twenty batches."""
    for _ in itertools.islice(iterator, 20):
        pass
    start = time.perf_counter()
    seen = 0
    while (passed := time.perf_counter() - start) < _SECONDS.value:
        seen += len(next(iterator)["label"])
    return seen / passed


if __name__ == "__main__":
    app.run(main)
