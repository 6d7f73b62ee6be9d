"""Random damage to a file of every kind: it is read, or refused in one line, with little memory.

The long form is in tests/reliability.
"""

import file_kinds
import fuzzing
import pytest


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return file_kinds.make(tmp_path_factory.mktemp("kinds"))


def test_damaged_files_of_every_kind(kinds, tmp_path):
    found = [fuzzing.attempts(kind, tmp_path / "f", 8) for kind in kinds]
    assert [line for _, _, wrong in found for line in wrong] == []
    refused, read = (sum(numbers) for numbers in list(zip(*found))[:2])
    assert refused > read > len(kinds)
    assert refused + read == sum(1 if kind.slow else 8 for kind in kinds)


def test_what_goes_wrong_is_noticed(tmp_path):
    """The fuzzing itself: other errors, errors of libraries, of several lines, and memory."""

    def fails(path):
        if path.read_bytes() != b"whole":
            raise next(errors)

    for error in (KeyError("a"), ValueError("of a library"), ValueError("two\nlines")):
        errors = iter([error] * 3)
        kind = file_kinds.file("a", b"whole", "a", fails)
        assert len(fuzzing.attempts(kind, tmp_path / "f", 3)[2]) >= 3
    takes = file_kinds.file("a", b"whole", "a", lambda path: len(path.read_bytes() * 2**27))
    assert "it took" in fuzzing.attempts(takes, tmp_path / "f", 1)[2][0]
