import numpy as np
import pytest

from diffusion_jax.data import ArraySource, batches, make_source


@pytest.fixture
def numbered():
    """Images that are their own index."""
    index = np.arange(20)
    return ArraySource(index.astype(np.uint8).reshape(20, 1, 1, 1), index, [str(i) for i in index])


def take(iterator, count):
    return np.stack([next(iterator)["label"] for _ in range(count)])


def test_digits_are_the_real_ones():
    source = make_source("digits", split="all", data_dir="")
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


def test_imagenet_is_read_as_tfds_wrote_it(golden):
    name = "tfds:imagenet_resized/64x64"
    source = make_source(name, split="train", data_dir=str(golden / "tfds"))
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
        make_source(name, split="test", data_dir=str(golden / "tfds"))


def test_every_epoch_is_a_new_permutation(numbered):
    epochs = take(batches(numbered, batch_size=4, seed=0), 15).reshape(3, 20)
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_a_function_of_seed_and_step(numbered):
    whole = take(batches(numbered, batch_size=3, seed=1), 20)
    assert np.array_equal(
        take(batches(numbered, batch_size=3, seed=1, start_step=11), 9), whole[11:]
    )
    assert not np.array_equal(take(batches(numbered, batch_size=3, seed=2), 20), whole)


def test_mirroring_depends_on_seed_epoch_and_image():
    images = np.arange(2 * 3, dtype=np.uint8).reshape(1, 1, 6, 1).repeat(40, axis=0)
    source = ArraySource(images, np.arange(40), [str(i) for i in range(40)])
    stream = batches(source, batch_size=8, seed=0, flip=True)
    told = [next(stream) for _ in range(15)]
    first = np.concatenate([batch["image"][:, 0, 0, 0] == 5 for batch in told]).reshape(3, 40)
    order = np.concatenate([batch["label"] for batch in told]).reshape(3, 40)
    # Each image is whole, mirrored or not; about half are; and each epoch mirrors others.
    for batch in told:
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
