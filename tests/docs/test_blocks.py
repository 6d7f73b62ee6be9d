"""The plugin that runs the blocks of the documentation."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import small_command

ROOT = Path(__file__).parent.parent.parent

PAGE = """
```bash
pip install -r requirements.txt
```

```python
x = 1
```

```bash
python -m venv .venv && cp 3.png 4.png
python -m scripts.none
```

```python
assert x == 1
assert x == 2
```
"""


def test_a_broken_command_and_a_broken_snippet_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    command = [sys.executable, "-m", "pytest", "-c", "docs/pytest.ini", "-n", "0", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "2 failed, 1 passed, 1 skipped" in done.stdout
    assert "pip install: the packages are installed" in done.stdout
    assert "No module named scripts.none" in done.stdout
    assert re.search(r"page\.md:17: AssertionError", done.stdout)


@pytest.mark.parametrize(
    ("module", "words", "expected"),
    [
        ("scripts.sample", "--count 50000 --save npz", "--count 50000 --save npz --count=20"),
        ("scripts.fid", "evaluate --features pixels", "evaluate --features pixels --count=20"),
        ("scripts.train", "--workdir a", "--workdir a --config.steps=2 --config.batch_size=4"),
    ],
)
def test_sizes_are_reduced_at_the_end(module, words, expected):
    assert small_command.small(module, words.split()) == expected.split()


def test_a_network_of_the_page_wins():
    words = ["--config", "configs/digits.py", "--config.model.blocks=res,conv"]
    small = small_command.small("scripts.train", words)
    assert [flag for flag in small if "model.blocks" in flag] == ["--config.model.blocks=res,conv"]


def test_every_excuse_is_needed():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(path.read_text() for path in pages)
    assert not [part for part in small_command.NOT_RUN if part not in text]
