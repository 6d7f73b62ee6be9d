"""Runs the commands and the Python of README and documentation, page by page, with reduced sizes.

    python -m docs.run_blocks [PAGE ...]

Each page runs in a folder of its own, where it finds small versions of what it names and does not
make (`block_ground.py`). Long commands are reduced (`block_sizes.py`); what cannot be run is named
with its reason (`block_commands.py`). The exit code is 1 if a block fails.
"""

import itertools
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from docs import block_commands, block_ground, block_sizes, generate

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
SHOWN = ("text", "diff")  # kinds of blocks that are not run
# Pages whose commands come after their Python was added to the library.
ADDS = ("docs/extend/network.md",)
# Compiled programs are shared, and compiled in a hurry.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
    "PYTHONWARNINGS": "ignore:resource_tracker",  # of the locks of progress bars, in forks
}


@dataclass(frozen=True)
class Block:
    """line: of the page, that of its first line."""

    kind: str
    line: int
    text: str


@dataclass
class Result:
    """What came of a page: its blocks by outcome, and what it used."""

    page: str
    seconds: float = 0.0
    run: int = 0
    reduced: int = 0
    left_out: list[str] = field(default_factory=list)  # page:line of blocks that were not run
    not_run: set[str] = field(default_factory=set)  # keys of NOT_RUN
    given: set[str] = field(default_factory=set)  # names in the ground
    failure: str = ""


def pages() -> list[Path]:
    """README and the pages of docs, but those that are made from the code."""
    made = ("docs/reference/api/", *(f"docs/{page}" for page in generate.PAGES))
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if not name_of(path).startswith(made)]


def trainings(path: Path) -> int:
    return path.read_text().count("python -m scripts.train")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """The blocks that are run: Python, and commands. Raises ValueError for another kind."""
    for match in BLOCK.finditer(text):
        kind, line = match["kind"] or "bash", text.count("\n", 0, match.start("text")) + 1
        if kind in ("bash", "python"):
            yield Block(kind, line, match["text"])
        elif kind not in SHOWN and not kind.startswith("{"):
            raise ValueError(f"line {line}: a block of {kind!r} is not bash, python, text or diff")


def run_page(path: Path, folder: Path, ground: Path) -> Result:
    """Runs the blocks of a page in a folder until one fails; neighboring Python in one process."""
    result, begin, before = Result(path.name), time.monotonic(), ""
    if path.is_relative_to(ROOT):
        result.page = name_of(path)
    shutil.copytree(ground / "home", folder / "home")
    (folder / "docs").mkdir()
    line = 0
    try:
        for kind, group in itertools.groupby(blocks(path.read_text()), lambda block: block.kind):
            for block in (several := list(group)):
                line = block.line
                result.given |= give(block.text, folder, ground)
                if kind == "bash":
                    line = run_commands(block, result, folder, before)
            if kind == "python":
                line = several[0].line
                texts = [block_sizes.reduced_python(block.text) for block in several]
                before_each = [(block.line - 1, text) for block, text in zip(several, texts)]
                block_commands.run_python(before_each, path, folder)
                result.run += len(several)
                result.reduced += sum(text != b.text for text, b in zip(texts, several))
                if result.page in ADDS:
                    before += "\n".join(block.text for block in several)
    except (block_commands.Failed, ValueError) as error:
        at = re.findall(rf'File "{re.escape(str(path))}", line (\d+)', str(error))
        line = getattr(error, "line", int(at[-1]) if at else line)
        result.failure = f"{result.page}:{line}: {error}"
    result.seconds = time.monotonic() - begin
    return result


def run_commands(block: Block, result: Result, folder: Path, before: str) -> int:
    """Runs the commands of a block and counts it; returns the line."""
    outcomes = []
    for offset, words in block_commands.commands(block.text):
        try:
            outcomes.append(block_commands.run(words, folder, before))
        except block_commands.Failed as error:
            error.line = block.line + offset
            raise
    result.not_run |= set(outcomes) - {"run", "reduced"}
    if set(outcomes) <= set(block_commands.NOT_RUN):
        result.left_out.append(f"{result.page}:{block.line}")
    else:
        result.run += 1
        result.reduced += "reduced" in outcomes
    return block.line


def give(text: str, folder: Path, ground: Path) -> set[str]:
    """Copies what a block names and does not make, if it is not there; returns the names."""
    text, given = text.replace("\\\n", " "), set()
    for path in [*ground.glob("*.*"), *ground.glob("runs/*")]:
        name = path.relative_to(ground).as_posix()
        word = rf"(?<![\w./]){re.escape(name)}(?![\w-])"
        made = re.search(rf"scripts\.(train|convert) [^\n]*--workdir {word}", text)
        if not re.search(word, text) or made or (folder / name).exists():
            continue
        given.add(name)
        if path.is_dir():
            shutil.copytree(path, folder / name)
        else:
            shutil.copy(path, folder / name)
    return given


def make_ground(pool: ProcessPoolExecutor, ground: Path) -> None:
    """Makes what pages expect. Raises Failed."""
    pool.submit(block_ground.make_files, ground).result()
    for made in [pool.submit(make_run, name, ground) for name in block_ground.RUNS]:
        made.result()
    for copy, run in block_ground.COPIES.items():
        shutil.copytree(ground / run, ground / copy)


def make_run(name: str, ground: Path) -> None:
    block_commands.run([*block_ground.RUNS[name].split(), f"--workdir={name}"], ground)


def main(names: Sequence[str]) -> int:
    chosen = [Path(name).resolve() for name in names] or pages()
    # Those with most to do come first, so that both processes end at the same time.
    chosen.sort(key=trainings, reverse=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ |= ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
        folders = [folder / str(index) for index in range(len(chosen))]
        for path in (ground := folder / "ground", *folders):
            path.mkdir()
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, context, block_commands.preload) as pool:
            make_ground(pool, ground)
            results = []
            for result in pool.map(run_page, chosen, folders, itertools.repeat(ground)):
                results.append(result)
                print(f"{result.seconds:6.1f} s  {result.page}  {result.failure}", flush=True)
        used_by_runs = " ".join(block_ground.RUNS.values()).split()
        names_given = {path.name for path in ground.glob("*.*")} - {*used_by_runs}
        names_given |= {*block_ground.RUNS, *block_ground.COPIES}
    return report(results, unused=set() if names else stale(results, names_given))


def stale(results: Sequence[Result], ground: set[str]) -> set[str]:
    """What is prepared or excused here although no page has it."""
    known = ground | {*block_commands.NOT_RUN}
    return known.difference(*(result.given | result.not_run for result in results))


def report(results: Sequence[Result], unused: set[str]) -> int:
    """Prints the sums, and what was not run and why; returns the exit code."""
    failures = [result.failure for result in results if result.failure]
    left_out = [where for result in results for where in result.left_out]
    total, small = (sum(getattr(r, name) for r in results) for name in ("run", "reduced"))
    print(f"{total} blocks run, {small} with reduced sizes, {len(left_out)} not run:", *left_out)
    print("Commands that are not run:")
    for key in sorted(set().union(*(result.not_run for result in results))):
        print(f"  {key}: {block_commands.NOT_RUN[key]}")
    for name in sorted(unused):
        print(f"No page needs {name!r}: take it out of docs/block_*.py")
    for failure in failures:
        print(f"\nFAILED {failure}")
    return int(bool(failures or unused))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
