"""The script that runs the blocks of the documentation: a failure has its line."""

import pytest

from docs import block_commands, block_sizes, run_blocks


def page(tmp_path, text):
    """What comes of a page with this text."""
    for name in ("ground/home", "page"):
        (tmp_path / name).mkdir(parents=True)
    path = tmp_path / "page.md"
    path.write_text(text)
    return run_blocks.run_page(path, tmp_path / "page", tmp_path / "ground")


def test_commands_of_a_block():
    text = "a --b \\\n    c  # why\n\nd && e 'f g'\n"
    assert block_commands.commands(text) == [
        (0, ["a", "--b", "c"]),
        (3, ["d"]),
        (3, ["e", "f g"]),
    ]


def test_a_failing_command_is_reported_with_its_line(tmp_path):
    result = page(tmp_path, "# Title\n\n```bash\npip install x\n\npython -m scripts.none\n```\n")
    assert result.failure.startswith("page.md:6: exit code 1")
    assert "scripts.none" in result.failure


def test_failing_python_is_reported_with_its_line(tmp_path):
    result = page(
        tmp_path, "```python\nx = 1\n```\n\n```python\nassert x == 1\nassert x == 2\n```\n"
    )
    assert result.failure.startswith("page.md:7: exit code 1")


def test_python_of_a_page_is_one_program(tmp_path):
    result = page(tmp_path, "```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n")
    assert not result.failure
    assert result.run == 2


def test_unknown_commands_and_blocks_are_failures(tmp_path):
    assert "page.md:2: Unknown command: make" in page(tmp_path / "a", "```\nmake\n```\n").failure
    assert "'fish'" in page(tmp_path / "b", "```fish\nls\n```\n").failure


def test_an_excuse_that_no_page_needs_is_found():
    results = [run_blocks.Result("page.md", not_run=set(block_commands.NOT_RUN), given={"a.png"})]
    assert run_blocks.stale(results, {"a.png"}) == set()
    assert run_blocks.stale(results, {"b.png"}) == {"b.png"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--count 50000 --save npz", ["--count=20", "--save=npz"]),
        ("--count 9 --steps 5,10,20", ["--count=9", "--steps=5,10"]),
    ],
)
def test_numbers_have_limits(words, expected):
    assert block_sizes.reduced("scripts.sample", words.split()) == expected
