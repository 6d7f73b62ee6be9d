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
    assert source.class_names[:2] == ["n02119789", "n02100735"]
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
