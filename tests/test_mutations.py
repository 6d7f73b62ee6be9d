"""The changes of `mutations.py` can be made: each text to change is in its file once."""

import mutations
import pytest


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda change: change.old[:40])
def test_the_text_to_change_is_there_once(mutation):
    assert (mutations.ROOT / mutation.file).read_text().count(mutation.old) == 1
    for word in mutation.tests.split():
        assert not word.startswith("tests/") or (mutations.ROOT / word).is_file()


def test_the_table_says_what_noticed_each_change():
    a, b, *_ = mutations.MUTATIONS
    one = mutations.Result(mutations.Mutation("a.py", "x | y", "", a.tests), "tests/t.py::t", 2.4)
    other = mutations.Result(mutations.Mutation("b.py", "z", "w", b.tests), "", 7)
    lines = mutations.table([one, other], 9).splitlines()
    assert lines[0] == "# Changes to the code that tests notice"
    assert f"{mutations.date.today()}, 9 changes" in lines[2]
    assert "jax " in lines[3]
    assert "| a.py | `x \\| y` → nothing | tests/t.py::t | 2 |" in lines
    assert "| b.py | `z` → `w` | **SURVIVED** | 7 |" in lines
    assert lines[-1] == "tried 2, noticed 1"


def test_the_table_is_whole_whenever_it_is_stopped(tmp_path, monkeypatch, capsys):
    def stopped(copy, tests):
        if (tmp_path / "table.md").exists():
            raise KeyboardInterrupt
        return "tests/t.py::t"

    out = tmp_path / "table.md"
    monkeypatch.setattr(mutations, "failing_test", stopped)
    monkeypatch.setattr(mutations, "COPIED", ("diffusion_jax",))
    monkeypatch.setattr(mutations.sys, "argv", ["mutations.py", "--out", str(out)])
    assert mutations.main() == 130
    assert out.read_text().splitlines()[-1] == "tried 1, noticed 1"
    assert capsys.readouterr().out.splitlines()[-1] == "tried 1, noticed 1"
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
