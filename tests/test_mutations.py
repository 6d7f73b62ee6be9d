"""The changes of `mutations.py` can be made: each text to change is in its file once."""

import mutations
import pytest


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda change: change.old[:40])
def test_the_text_to_change_is_there_once(mutation):
    assert (mutations.ROOT / mutation.file).read_text().count(mutation.old) == 1
    for word in mutation.tests.split():
        assert not word.startswith("tests/") or (mutations.ROOT / word).is_file()
