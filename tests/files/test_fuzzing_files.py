"""Random damage to files of every kind: each is read, or refused in one line, in little memory.

The long form is in tests/reliability.
"""

import file_kinds
import fuzzing
import pytest


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return file_kinds.make(tmp_path_factory.mktemp("kinds"))


def test_damaged_files_are_read_or_refused_in_one_line(kinds, tmp_path):
    found = [fuzzing.attempts(kind, tmp_path / "f", 8) for kind in kinds]
    assert [line for _, _, wrong in found for line in wrong] == []
    refused, read = (sum(numbers) for numbers in list(zip(*found))[:2])
    assert refused > read > len(kinds)
    assert refused + read == sum(1 if kind.slow else 8 for kind in kinds)


def test_fuzzing_notices_other_errors_long_messages_and_memory(tmp_path):
    """A test of the fuzzing itself."""

    def fails(path):
        if path.read_bytes() != b"whole":
            raise next(errors)

    for error in (KeyError("a"), ValueError("of a library"), ValueError("two\nlines")):
        errors = iter([error] * 3)
        kind = file_kinds.file("a", b"whole", "a", fails)
        assert len(fuzzing.attempts(kind, tmp_path / "f", 3)[2]) >= 3
    takes = file_kinds.file("a", b"whole", "a", lambda path: len(path.read_bytes() * 2**27))
    assert "it took" in fuzzing.attempts(takes, tmp_path / "f", 1)[2][0]
