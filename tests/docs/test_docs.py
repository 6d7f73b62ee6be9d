"""The documentation: its links lead somewhere, its flags and fields exist."""

import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generate()
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if not path.relative_to(ROOT)
    .as_posix()
    .startswith(("docs/reference/api/", *(f"docs/{page}" for page in generate.PAGES)))
)
BLOCK = re.compile(r"^```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
DIRECTIVES = ("{image}", "{include}", "{seealso}", "{toctree}")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, kind: str) -> Iterator[str]:
    """Texts of the blocks of a language."""
    for match in BLOCK.finditer(path.read_text()):
        if match["kind"] == kind:
            yield match["text"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_run_or_are_plain_text(page):
    """`docs/blocks.py` runs bash and Python, and would pass over other languages."""
    kinds = {match["kind"] for match in BLOCK.finditer(page.read_text())}
    assert kinds <= {"bash", "python", "text", "diff", *DIRECTIVES}, name_of(page)


# Links and paths.

LINK = re.compile(r"(?<!`)\]\((?P<target>[^)\s]+)\)")
# A path in the text or in code. Names in capitals stand for any.
PATH = re.compile(
    r"(?<![\w/.-])(?:docs|configs|scripts|tests|benchmarks|diffusion_jax)/[\w./*-]*\w"
)


def prose(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return BLOCK.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as code hosts and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for match in LINK.finditer(prose(page)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"\w+:", target):  # another site
            continue
        other = (page.parent / target).resolve() if target else page
        made = [ROOT / "docs" / name for name in generate.PAGES]
        assert other in made or other.exists(), f"{name_of(page)} links to {match['target']}"
        if anchor and other.suffix == ".md":
            assert anchor in anchors(other), f"{name_of(page)} links to {match['target']}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page):
    made = [f"docs/{name}" for name in generate.PAGES]
    # What a command of the page writes, or an example adds.
    added = re.findall(r"--plot (\S+)", page.read_text())
    for path in sorted(set(PATH.findall(page.read_text())) - set(made) - set(added)):
        stands_for_any = re.search(r"(?<![A-Za-z])[A-Z]{2}", path)
        stands_for_any = stands_for_any or path in EXAMPLES.get(page.stem, ())
        assert stands_for_any or list(ROOT.glob(path)), f"{name_of(page)} names {path}"


# Where the examples of docs/extend would go.
EXAMPLES = {
    "sampler": ("diffusion_jax/sampling/solvers/renoise.py",),
    "block": ("diffusion_jax/models/layers/squeeze_excitation.py",),
    "network": ("diffusion_jax/models/stack.py",),
    "dataset": ("diffusion_jax/data/discs.py",),
}


# Commands.

SBATCH = {"train.sbatch": "scripts.train", "train_nodes.sbatch": "scripts.train"}
SBATCH |= {"sample.sbatch": "scripts.sample"}


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of this project in the page's blocks of bash, and those in its sentences."""
    texts = [text for kind in ("bash", "text") for text in blocks(page, kind)]
    inline = re.findall(r"`((?:python|sbatch|diffusion-jax )[^`]+)`", prose(page))
    texts += [" ".join(text.split()) for text in inline]
    for text in texts:
        for line in re.split(r"\n|&&", text.replace("\\\n", " ")):
            words = shlex.split(line.replace("...", ""), comments=True)
            if "-m" in words[:3] and words[words.index("-m") + 1].startswith(("scripts.", "bench")):
                yield words[words.index("-m") + 1 :]
            elif len(words) > 1 and words[0] == "diffusion-jax" and words[1].isalpha():
                yield [f"scripts.{words[1]}", *words[2:]]
            elif words and words[0] == "sbatch" and "scripts/slurm/" in line:
                script = next(word for word in words if word.endswith(".sbatch"))
                rest = words[words.index(script) + 1 :]
                given = [["--config", rest[0]], []][script.endswith("sample.sbatch")]
                yield [SBATCH[Path(script).name], *given, *rest]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_of_commands_exist(page):
    found = list(commands(page))
    with ThreadPoolExecutor() as pool:  # a process for each script
        list(pool.map(generate.describe, {module for module, *_ in found}))
    for module, *words in found:
        about = generate.describe(module)
        given = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")]
        taking = [taken for name, taken in about["commands"].items() if name.split()[0] == words[0]]
        for flag in given:
            where = f"{name_of(page)}: {module} {' '.join(words)}"
            if flag.startswith("config."):
                assert flag.removeprefix("config.") in fields(config_of(module, words)), where
                continue
            known = flag in about["flags"] or flag.removeprefix("no") in about["flags"]
            assert known, f"{where} has no flag --{flag}"
            owners = [name for name, taken in about["commands"].items() if flag in taken]
            if taking and owners:
                assert any(flag in taken for taken in taking), f"{where}: --{flag} is of {owners}"


# Pages that have the flags of other programs beside ours.
COMPARED = ("from_other_programs.md", "importing_the_original.md")


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in COMPARED], ids=name_of)
def test_flags_in_sentences_exist(page):
    known = {
        "help",
        *(flag for name in generate.scripts() for flag in generate.describe(name)["flags"]),
    }
    for flag in re.findall(r"`--(\w+)\b(?!\.)", prose(page)):
        there = flag in known or flag.removeprefix("no") in known
        assert there, f"{name_of(page)} names --{flag}, which no script has"


def config_of(module: str, words: list[str]) -> str:
    """The config that a command starts from."""
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if name == "--config":
            return value if equals else following
    if module == "scripts.convert" and "--from" in words:
        from scripts.convert import CONFIGS

        return f"configs/{CONFIGS[words[words.index('--from') + 1]]}.py"
    return "configs/base.py"


@functools.cache
def fields(config: str) -> frozenset[str]:
    """The fields of a config, by dotted name."""
    from diffusion_jax.config.schema import flatten

    path, _, argument = config.partition(":")
    if re.fullmatch(r"[A-Z]+", Path(path).stem):
        path = "configs/base.py"
    if argument == "stack":  # the network that docs/extend adds
        return all_fields()
    module = importlib.import_module(f"configs.{Path(path).stem}")
    made = module.get_config(argument) if argument else module.get_config()
    return frozenset(flatten(made))


@functools.cache
def all_fields() -> frozenset[str]:
    """The fields of all configs, and of all networks."""
    from diffusion_jax.config.schema import flatten, model_section
    from diffusion_jax.models import MODELS

    known = set(fields("configs/base.py"))
    for name in MODELS:
        known |= {f"model.{field}" for field in flatten(model_section(name))}
    return frozenset(known)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_fields_that_are_named_exist(page):
    """`--config.FIELD` and `config.FIELD` anywhere in the text, sections included."""
    sections = {
        ".".join(p[:i]) for n in all_fields() for p in [n.split(".")] for i in range(len(p))
    }
    known = all_fields() | sections | EXAMPLE_FIELDS.get(page.stem, set())
    for name in re.findall(r"`-{0,2}config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)\b(?!\()", prose(page)):
        if name not in ("json", "sampling.autoguidance"):
            assert name in known, f"{name_of(page)} names config.{name}"


EXAMPLE_FIELDS = {
    "sampler": {"sampling.renoise.fresh"},
    "block": {"model.options.se.reduction"},
    "loss": {"loss.p2.gamma", "loss.joint.share"},
}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


# The pages that are made.


def test_reference_has_every_field_and_flag(tmp_path):
    generate.main(tmp_path)
    text = (tmp_path / "reference/config.md").read_text()
    assert not [name for name in fields("configs/base.py") if f"`{name}`" not in text]
    text = (tmp_path / "reference/flags.md").read_text()
    for module in ("scripts.train", "scripts.sample", "scripts.fid", "scripts.edit"):
        assert f"## {module}" in text
        assert not [
            name for name in generate.describe(module)["flags"] if f"`--{name}`" not in text
        ]
    assert (
        "automodule:: diffusion_jax.sampling.solvers.ddim"
        in (tmp_path / "reference/api/sampling.md").read_text()
    )
