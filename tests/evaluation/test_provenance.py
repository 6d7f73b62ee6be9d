"""Versions that results record."""

import subprocess

import jax
import pytest

import diffusion_jax
from diffusion_jax.evaluation import provenance
from diffusion_jax.workdir import environment


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    command = ["git", *who, "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("1")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    yield folder
    provenance.commit.cache_clear()


def test_the_version_is_of_the_code_that_runs(monkeypatch, tmp_path):
    """The metadata of an installed package are missing in a checkout, or are of another one."""
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    assert provenance.version_of("diffusion-jax") == diffusion_jax.__version__
    assert provenance.current()["diffusion-jax"] == diffusion_jax.__version__
    assert environment.here()["diffusion-jax"] == diffusion_jax.__version__
    assert provenance.version_of("jax") == jax.__version__
    assert provenance.version_of("no-such-package") == "not installed"


def test_the_commit_of_a_checkout_is_recorded(monkeypatch, checkout):
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "CHECKOUT", checkout)
    expected = f"{diffusion_jax.__version__}, commit {head[:12]}"
    assert provenance.current()["diffusion-jax"] == expected


def test_changed_files_are_recorded_and_new_ones_are_not(checkout):
    (checkout / "new.txt").write_text("1")
    assert not provenance.commit(checkout).endswith("with changes")
    provenance.commit.cache_clear()
    (checkout / "a.txt").write_text("2")
    assert provenance.commit(checkout).endswith(" with changes")


def test_a_folder_inside_another_checkout_has_no_commit(checkout):
    (checkout / "installed").mkdir()
    assert provenance.commit(checkout / "installed") == ""
