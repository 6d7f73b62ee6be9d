"""Import rules of the library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "diffusion_jax").rglob("*.py"))
BELOW_RUNS = {
    "diffusion",
    "models",
    "sampling",
    "training",
    "data",
    "evaluation",
    "files",
    "images",
    "parallel",
    "pictures",
    "config",
    "workdir",
    "generation",
}
# What each part of the library may import of the others. Modules at the root count as parts.
MAY_IMPORT = {
    "diffusion": set(),
    "models": {"diffusion"},
    "sampling": {"diffusion"},
    "files": set(),
    "parallel": set(),
    "images": {"diffusion"},
    "pictures": {"images"},
    "data": {"diffusion", "files", "images"},
    "training": {"diffusion", "models", "files", "images", "parallel"},
    "evaluation": {"diffusion", "files", "images", "data", "parallel"},
    "config": {"diffusion", "models", "sampling", "training", "data", "files"},
    "workdir": {
        "evaluation",
        "diffusion",
        "models",
        "training",
        "data",
        "files",
        "parallel",
        "config",
    },
    "generation": BELOW_RUNS,
    "runs": BELOW_RUNS | {"importers"},
    "report": {
        "config",
        "data",
        "evaluation",
        "files",
        "generation",
        "images",
        "models",
        "pictures",
        "runs",
        "training",
        "workdir",
    },
    "playground": {"config", "generation", "images", "pictures", "runs", "sampling"},
    "command": {"config"},
    "importers": {"diffusion", "models", "training", "config", "workdir", "files"},
}
# What the mathematics may import besides. Of the mathematics, networks import the types alone.
MATHS = ("diffusion", "sampling")
MATHS_MAY_IMPORT = {
    "jax",
    "numpy",
    "jaxtyping",
    "collections",
    "dataclasses",
    "pathlib",
    "typing",
    "functools",
    "inspect",
    "types",
}
MATHS_MAY_IMPORT |= {"zlib"}
ONLY = {
    "safetensors": ["diffusion_jax/importers/safetensors.py"],
    "orbax": ["diffusion_jax/training/checkpoints.py"],
    "tensorflow_datasets": ["diffusion_jax/data/tfds_source.py"],
}
NETWORKS = {"models", "evaluation"}


def imports(path):
    """The dotted names that a file imports, as `package.module` or `package.module.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path):
    """The part of the library that a file belongs to: "models", "parallel", ..."""
    return path.relative_to(ROOT / "diffusion_jax").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_it_may(path):
    names = imports(path)
    tops = {name.split(".")[0] for name in names}
    assert not tops & {"configs", "scripts", "absl", "tensorflow", "flax.training"}
    for library, files in ONLY.items():
        assert library not in tops or str(path.relative_to(ROOT)) in files
    if part(path) == "__init__":
        return
    ours = {name.split(".")[1] for name in names if name.startswith("diffusion_jax.")}
    assert ours <= MAY_IMPORT[part(path)] | {part(path)}
    if part(path) in MATHS:
        assert tops - {"diffusion_jax"} <= MATHS_MAY_IMPORT
    if part(path) == "models":
        maths = {
            name.split(".")[2] for name in names if name.startswith("diffusion_jax.diffusion.")
        }
        assert maths <= {"types"}


def test_the_root_holds_few_entries():
    entries = {path.name for path in (ROOT / "diffusion_jax").iterdir()} - {
        "__pycache__",
        "pretrained",
    }
    modules = {"images", "parallel", "command"}
    assert entries == {"__init__.py"} | {f"{m}.py" for m in modules} | (set(MAY_IMPORT) - modules)


def test_networks_are_in_their_places():
    flax = [path for path in LIBRARY if any("flax.linen" in name for name in imports(path))]
    outside = [path.relative_to(ROOT).as_posix() for path in flax if part(path) not in NETWORKS]
    assert not outside


def test_only_one_file_uses_pmap():
    saying = [path.name for path in LIBRARY if "jax.pmap" in path.read_text()]
    assert saying == ["parallel.py"]
