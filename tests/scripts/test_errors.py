"""What is said of mistakes that the system and the code of a config make known."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.cli import errors, terminal

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", ", line 1: SyntaxError: invalid syntax"),
        ("\nimport nowhere_at_all", ", line 2: ModuleNotFoundError: No module named"),
        ("def get_config():\n    return nothing", ", line 2: NameError: name 'nothing'"),
        ("def get_config():\n    return {}['a']", ", line 2: KeyError: 'a'"),
        ("x = 1", " has no function get_config"),
        ("x = '\0'", ": source code string cannot contain null bytes"),
        (
            "def get_config():\n    return {'steps': 1}",
            ": get_config returned a value of type dict, and",
        ),
    ],
)
def test_a_config_that_cannot_be_read_gets_one_line(text, message, tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(text)
    command = [sys.executable, "-m", "scripts.train", "--config", path, "--dry_run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: --config={path}{message}")
    assert done.stderr.count("\n") == 1


def test_an_error_of_the_system_says_what_to_do():
    def line(number, *path):
        return str(errors.of_system(OSError(number, "What it is", *path)))

    assert line(errno.EACCES, "/a/b") == (
        "/a/b: What it is; change its permissions (chmod), or choose another place"
    )
    assert line(errno.ENOSPC) == "What it is; make room, or choose another place"
    ours = FileNotFoundError("/a has no b; type c")
    assert errors.of_system(ours) is ours


def test_what_is_printed_cannot_move_the_cursor():
    """File names and values of a config may hold anything; bars need to go up a line."""
    text, beside_bars = io.StringIO(), io.StringIO()
    print("a\x1b[31m\x9b0m\r\u202eb\tné", file=terminal.Plain(text, terminal.IN_TEXT))
    assert text.getvalue() == "a?[31m?0m??b\tné\n"
    stream = terminal.Plain(beside_bars, terminal.BESIDE_BARS)
    print("\r50%\x1b[A \x1b]0;title\x07", file=stream)
    assert beside_bars.getvalue() == "\r50%\x1b[A ?]0;title?\n"
    assert stream.getvalue() == beside_bars.getvalue()


def test_names_in_the_output_of_a_script_are_plain(tmp_path):
    """Also on the lines that are written beside a bar."""
    code = (
        "from tqdm import tqdm; from scripts import cli\n"
        "def main():\n    bar = tqdm(total=1); bar.write('a\\x1bb'); bar.update()\n"
        "cli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.stdout == b"a?b\n"
    assert b"100%" in done.stderr
