"""Paths as users write them."""

from pathlib import Path

import pytest

from diffusion_jax.files.paths import local_path


def test_the_home_folder_is_expanded():
    assert local_path("~/runs/a") == Path.home() / "runs" / "a"
    assert local_path(Path("~")) == Path.home()


@pytest.mark.parametrize("name", ["runs/lr=1e-3,wd=0", "a, b.png", "runs/a:b", "c:/runs", "-"])
def test_other_names_are_unchanged(name):
    assert str(local_path(name)) == name


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://b", "https://x.org/a.npz", "gs:/b"])
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_are_refused(address, kind):
    with pytest.raises(ValueError, match=f"{kind(address)} is a URL"):
        local_path(kind(address))


def test_an_empty_path_and_an_unknown_user_are_refused():
    with pytest.raises(ValueError, match="a path is empty"):
        local_path(" ")
    with pytest.raises(ValueError, match="~nobody-of-this-name/x: unknown user"):
        local_path("~nobody-of-this-name/x")
