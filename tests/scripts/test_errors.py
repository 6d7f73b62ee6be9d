"""Error lines of the operating system and of configs, and control characters in them."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli import errors, terminal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("def get_config(:", "line 1: SyntaxError"),
        ("\nimport nowhere_at_all", "line 2: ModuleNotFoundError"),
        ("def get_config():\n    return nothing", "line 2: NameError"),
        ("def get_config():\n    return {}['a']", "line 2: KeyError"),
        ("x = 1", "get_config"),
        ("x = '\0'", "null bytes"),
        ("def get_config():\n    return {'steps': 1}", "type dict"),
    ],
)
def test_an_error_in_a_config_names_file_and_line_in_one_line(text, place, tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(text)
    command = [sys.executable, "-m", "scripts.train", "--config", path, "--dry_run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert str(path) in done.stderr
    assert place in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_system_has_path_reason_and_fix():
    error = errors.with_fix(OSError(errno.EACCES, "Permission denied", "/a/b"))
    assert str(error).startswith("/a/b: Permission denied; ")
    assert "chmod" in str(error)
    assert "make room" in str(errors.with_fix(OSError(errno.ENOSPC, "No space left on device")))
    ours = FileNotFoundError("/a has no b; type c")
    assert errors.with_fix(ours) is ours


def test_printed_text_has_no_control_characters():
    """File names and values of a config may hold anything; bars need to go up a line."""
    text, beside_bars = io.StringIO(), io.StringIO()
    print("a\x1b[31m\x9b0m\r\u202eb\tné", file=terminal.Plain(text, terminal.IN_TEXT))
    assert text.getvalue() == "a?[31m?0m??b\tné\n"
    stream = terminal.Plain(beside_bars, terminal.BESIDE_BARS)
    print("\r50%\x1b[A \x1b]0;title\x07", file=stream)
    assert beside_bars.getvalue() == "\r50%\x1b[A ?]0;title?\n"
    assert stream.getvalue() == beside_bars.getvalue()


def test_output_of_a_script_has_no_control_characters(tmp_path):
    """Also on the lines that are written beside a bar."""
    code = (
        "from tqdm import tqdm; from scripts.cli import app\n"
        "def main():\n    bar = tqdm(total=1); bar.write('a\\x1bb'); bar.update()\n"
        "app.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.stdout == b"a?b\n"
    assert b"100%" in done.stderr
