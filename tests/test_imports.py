"""Who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "diffusion_jax").rglob("*.py"))
MATHS = ("schedules", "process", "losses", "timesteps", "guidance", "keys", "types", "sampling")
MATHS_MAY_IMPORT = {"jax", "numpy", "jaxtyping", "collections", "dataclasses", "pathlib", "typing"}
MATHS_MAY_IMPORT |= {"zlib"}
ONLY = {
    "orbax": ["diffusion_jax/checkpoints.py"],
    "tensorflow_datasets": ["diffusion_jax/data/tfds_source.py"],
}


def imports(path):
    """The dotted names that a file imports, as `package.module` or `package.module.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def column(path):
    """The first part of a file's place inside the library: "models", "process", ..."""
    return path.relative_to(ROOT / "diffusion_jax").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_it_may(path):
    names = imports(path)
    tops = {name.split(".")[0] for name in names}
    assert not tops & {"configs", "scripts", "absl", "tensorflow", "flax.training"}
    for library, files in ONLY.items():
        assert library not in tops or str(path.relative_to(ROOT)) in files
    ours = {name.split(".")[1] for name in names if name.startswith("diffusion_jax.")}
    if column(path) in MATHS:
        assert tops - {"diffusion_jax"} <= MATHS_MAY_IMPORT
        assert ours <= set(MATHS)
    if column(path) == "models":
        assert ours <= {"models", "types"}


def test_networks_are_in_their_places():
    flax = [path for path in LIBRARY if any("flax.linen" in name for name in imports(path))]
    outside = [path.name for path in flax if column(path) != "models"]
    assert sorted(outside) == ["generate.py", "inception.py", "train_state.py", "train_step.py"]


def test_one_file_says_pmap():
    saying = [path.name for path in LIBRARY if "jax.pmap" in path.read_text()]
    assert saying == ["parallel.py"]
