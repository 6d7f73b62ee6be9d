import string

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from table_cases import DATASETS

from diffusion_jax.data import ArraySource, Description, batches, make_source
from diffusion_jax.data.cache_writer import CacheWriter
from diffusion_jax.data.crops import stretch


@pytest.fixture
def numbered():
    """Images that are their own index."""
    index = np.arange(20)
    return labeled(index.astype(np.uint8).reshape(20, 1, 1, 1), index)


def labeled(images, labels):
    names = [str(label) for label in labels]
    return ArraySource(Description("test", "all", images.shape[1:], names), images, labels)


def take(iterator, count):
    return np.stack([next(iterator)["label"] for _ in range(count)])


def test_digits_are_those_of_scikit_learn():
    source = make_source("digits", split="all")
    batch = source.read(np.arange(1797))
    assert len(source) == 1797
    assert batch["image"].shape == (1797, 8, 8, 1)
    assert batch["image"].dtype == np.uint8
    assert (batch["image"].min(), batch["image"].max()) == (0, 255)
    assert np.bincount(batch["label"]).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert source.class_names == list("0123456789")


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_its_images_classes_and_splits(name):
    split, count, shape, classes = DATASETS[name]
    source = make_source(name, split=split)
    batch = source.read(np.arange(count))
    assert len(source) == len(source.labels) == source.description.count == count
    assert batch["image"].shape == (count, *shape)
    assert batch["image"].dtype == np.uint8
    assert source.description.shape == shape
    assert_array_equal(batch["label"], source.labels)
    assert len(source.class_names) == classes
    assert sorted({*source.labels.tolist()}) == list(range(classes))
    assert make_source(name, split=split).description.fingerprint == source.description.fingerprint
    with pytest.raises(ValueError, match=f"{name} has no split 'nowhere'.*it has: .*{split}"):
        make_source(name, split="nowhere")


def test_imagenet_of_tfds_is_read(golden, tmp_path):
    name = "tfds:imagenet_resized/64x64"
    where = {"data_dir": str(golden / "tfds"), "cache_dir": str(tmp_path)}
    source = make_source(name, split="train", **where)
    assert len(source) == 24
    assert source.class_names[:2] == ["kit fox", "English setter"]
    assert len(source.class_names) == 1000
    batch = source.read(np.arange(24))
    assert batch["image"].shape == (24, 64, 64, 3)
    assert batch["image"].dtype == np.uint8
    assert np.bincount(batch["label"]).tolist() == [2] * 12
    stream = batches(source, batch_size=5, seed=0)
    seen = np.concatenate([next(stream)["image"] for _ in range(24)])
    assert len(np.unique(seen.reshape(120, -1), axis=0)) == 24
    with pytest.raises(ValueError, match=r"no split 'test'.*train, validation"):
        make_source(name, split="test", **where)


def test_emnist_letters_are_upright_and_labeled_from_0(golden, tmp_path):
    """The golden letters are stored transposed, as in EMNIST."""
    where = {"data_dir": str(golden / "tfds"), "cache_dir": str(tmp_path)}
    source = make_source("tfds:emnist/letters", split="train", **where)
    assert "".join(source.class_names) == string.ascii_uppercase
    batch = source.read(np.arange(26))
    assert batch["image"].shape == (26, 28, 28, 1)
    assert sorted(batch["label"]) == list(range(26))
    image = batch["image"][batch["label"].tolist().index(ord("T") - ord("A")), ..., 0].astype(int)
    rows, columns = image.sum(1), image.sum(0)
    assert rows.argmax() < 10  # the bar is at the top
    assert 12 <= columns.argmax() <= 15  # the stem in the middle


def test_tfds_images_are_cropped_and_converted(golden, tmp_path):
    where = {"data_dir": str(golden / "tfds"), "cache_dir": str(tmp_path)}
    stored = make_source("tfds:emnist/letters", split="train", **where)
    image = stored.read(np.array([3]))["image"][0, ..., 0]
    shrunk = make_source(
        "tfds:emnist/letters", split="train", resolution=14, channels=3, crop="stretch", **where
    )
    expected = np.asarray(stretch(Image.fromarray(image), 14))
    assert_array_equal(shrunk.read(np.array([3]))["image"][0], np.stack([expected] * 3, -1))
    assert stored.description.origin["crop"] == "as distributed"
    assert shrunk.description.origin["crop"] == "stretch"
    assert stored.description.fingerprint != shrunk.description.fingerprint


@pytest.mark.parametrize("name", ["imagenet_resized/99x99", "mnist:9.9.9", "a b", "../x", "nix"])
def test_unknown_tfds_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"^tfds has no dataset .*data\.name"):
        make_source(f"tfds:{name}", split="train", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("digits", {"holdout": "0.1"}),
        ("tfds:mnist", {"labels": "none"}),
        ("imagenet64", {"crop": "random-resized-crop"}),
    ],
)
def test_options_without_effect_are_refused(name, options):
    with pytest.raises(ValueError, match=r"^data\.\w+.* is for folders"):
        make_source(name, split="train", **options)


def test_full_disk_is_noticed_before_writing(tmp_path):
    description = Description("big", "train", (8, 8, 3), ["one"])
    with pytest.raises(ValueError, match="more are needed; make room"):
        CacheWriter(tmp_path / "big", description, ["a"], needed=2**60)


def test_drop_last_ends_an_epoch_with_its_last_full_batch(numbered):
    epochs = take(batches(numbered, batch_size=6, seed=0, drop_last=True), 9).reshape(3, 18)
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    whole = take(batches(numbered, batch_size=6, seed=0), 3).ravel()
    assert np.array_equal(epochs[0], whole)
    with pytest.raises(
        ValueError, match=r"20 images are fewer than batch_size=21; set data\.drop_last"
    ):
        next(batches(numbered, batch_size=21, seed=0, drop_last=True))


def test_every_epoch_is_a_new_permutation(numbered):
    epochs = take(batches(numbered, batch_size=4, seed=0), 15).reshape(3, 20)
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_is_a_function_of_seed_and_step(numbered):
    whole = take(batches(numbered, batch_size=3, seed=1), 20)
    assert np.array_equal(take(batches(numbered, batch_size=3, seed=1, start=33), 9), whole[11:])
    assert not np.array_equal(take(batches(numbered, batch_size=3, seed=2), 20), whole)


def test_mirroring_depends_on_seed_epoch_and_image():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(1, 1, 6, 1).repeat(40, axis=0)
    source = labeled(images, np.arange(40))
    stream = batches(source, batch_size=8, seed=0, flip=True)
    batches_read = [next(stream) for _ in range(15)]
    first = np.concatenate([batch["image"][:, 0, 0, 0] == 5 for batch in batches_read]).reshape(
        3, 40
    )
    order = np.concatenate([batch["label"] for batch in batches_read]).reshape(3, 40)
    # Each image is whole, mirrored or not; about half are; and each epoch mirrors others.
    for batch in batches_read:
        same = np.all(batch["image"] == images[:8], axis=(1, 2, 3))
        mirrored = np.all(batch["image"] == images[:8, :, ::-1], axis=(1, 2, 3))
        assert np.all(same ^ mirrored)
    by_image = np.take_along_axis(first, np.argsort(order), axis=1)
    assert all(10 < epoch.sum() < 30 for epoch in by_image)
    assert len({tuple(epoch) for epoch in by_image}) == 3
    # Another batch size takes the same images in the same order, mirrored as before.
    other = batches(source, batch_size=5, seed=0, flip=True)
    again = np.concatenate([next(other)["image"][:, 0, 0, 0] == 5 for _ in range(24)])
    assert np.array_equal(again, first.ravel())
    assert np.array_equal(source.images, images)  # the source keeps its own


@pytest.mark.parametrize("threads", [1, 3])
def test_processes_share_one_batch_in_order(numbered, threads):
    whole = take(batches(numbered, batch_size=6, seed=1), 8)
    parts = [
        take(
            batches(
                numbered,
                batch_size=6,
                seed=1,
                process_index=index,
                process_count=3,
                threads=threads,
            ),
            8,
        )
        for index in range(3)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
