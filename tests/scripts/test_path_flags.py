"""Flags that are paths: ~, commas, repetition and addresses."""

from pathlib import Path

import pytest
from absl import flags
from forks import run_each

from scripts.cli import path_flags

# Each flag that is a path, of each script. The others take a name as well as a path.
PATHS = {
    "train": ["workdir"],
    "sample": ["workdir", "out"],
    "edit": ["workdir", "images", "mask", "out"],
    "fid": ["workdir", "images", "data_dir", "plot"],
    "report": ["workdir", "out"],
    "average": ["workdir", "out"],
    "data": ["source", "data_dir", "out"],
    "play": ["workdir"],
    "convert": ["workdir", "model", "hyperparameters", "optimizer", "mean", "cov", "out"],
}


def parse(*arguments):
    values = flags.FlagValues()
    flags.DEFINE(path_flags.PathParser(), "out", None, "", flag_values=values)
    several = path_flags.OneOfSeveral(), flags.ArgumentSerializer(), "images", None, ""
    flags.DEFINE_multi(*several, flag_values=values)
    values(["script", *arguments])
    return values


def test_the_home_folder_is_expanded_and_commas_are_kept():
    values = parse("--out=~/runs/lr=1e-3,wd=0", "--images=a, b.png", "--images", "~/c.png")
    assert values.out == Path.home() / "runs" / "lr=1e-3,wd=0"
    assert values.images == [Path("a, b.png"), Path.home() / "c.png"]


def test_existing_files_joined_by_a_comma_are_refused(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.touch()
    assert parse(f"--images={a},{b}").images == [Path(f"{a},{b}")]
    b.touch()
    with pytest.raises(flags.IllegalFlagValueError, match="repeat the flag for each of these 2"):
        parse(f"--images={a},{b}")
    both = Path(f"{a},{b}")
    both.parent.mkdir(parents=True)
    both.touch()
    assert parse(f"--images={both}").images == [both]


@pytest.mark.parametrize("script", PATHS)
def test_every_flag_that_is_a_path_refuses_addresses(script):
    given = [[f"--{flag}=gs://bucket/x"] for flag in PATHS[script]]
    for flag, done in zip(PATHS[script], run_each(script, given)):
        assert done.returncode == 1
        assert f"flag --{flag}=gs://bucket/x: gs://bucket/x is a URL" in done.stderr
        assert done.stderr.count("\n") == 1
