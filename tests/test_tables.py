"""Completeness of the library's tables: docs, test cases, and errors that name what is missing."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import table_cases as cases

from diffusion_jax.config.schema import model_section
from diffusion_jax.data.sources import DATASETS
from diffusion_jax.diffusion.losses import LOSSES
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.schedules import SCHEDULES
from diffusion_jax.diffusion.timestep_samplers import TIMESTEP_SAMPLERS
from diffusion_jax.diffusion.weights import WEIGHTS
from diffusion_jax.evaluation import feature_metrics
from diffusion_jax.evaluation.feature_metrics import METRICS
from diffusion_jax.models import MODELS, UNet
from diffusion_jax.models.layers.block_chain import BLOCKS
from diffusion_jax.models.layers.block_interface import Block, Conditioning
from diffusion_jax.models.network import Network
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.sampling.spacing.automatic import AUTO, resolve_spacing
from diffusion_jax.training.ema import EMA_WEIGHTS

ROOT = Path(__file__).parents[1]
CHOICES, EVALUATING, DATA = "docs/choices.md", "docs/guides/evaluating.md", "docs/guides/data.md"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the library.

    Args:
        entries: by name.
        place: its variable and file, for errors.
        page: of the docs, with a table that has a row for each entry.
        header: of the first column there.
        undocumented: entries without a row.
        tested: names with a test case; None for a table without cases.
        cases: the variables of tests/table_cases.py with the cases.
        untested: entries without a case, tested elsewhere.
    """

    entries: Mapping[str, Any]
    place: str
    page: str
    header: str
    undocumented: Collection[str] = ()
    tested: Collection[str] | None = None
    cases: str = ""
    untested: Collection[str] = ()


stochastic = {solver for solver, *_ in (cases.STOCHASTIC | cases.STOCHASTIC_WITH_STATE).values()}
TABLES = [
    Table(
        SOLVERS,
        "SOLVERS in diffusion_jax/sampling/__init__.py",
        CHOICES,
        "`config.sampling.solver`",
        tested={*cases.ORDERS, *stochastic},
        cases="ORDERS (or, if it adds noise, STOCHASTIC)",
        untested=["original"],
    ),
    Table(
        SPACINGS | {AUTO: resolve_spacing},
        "SPACINGS in diffusion_jax/sampling/spacing/__init__.py",
        CHOICES,
        "`config.sampling.spacing`",
    ),
    Table(
        SCHEDULES,
        "SCHEDULES in diffusion_jax/diffusion/schedules.py",
        CHOICES,
        "`config.schedule.name`",
        tested=[*cases.DISCRETE, *cases.CONTINUOUS],
        cases="DISCRETE or CONTINUOUS",
    ),
    Table(
        PARAMETERIZATIONS,
        "PARAMETERIZATIONS in diffusion_jax/diffusion/parameterizations.py",
        CHOICES,
        "`config.parameterization.name`",
        tested=cases.TARGETS,
        cases="TARGETS",
    ),
    Table(
        LOSSES,
        "LOSSES in diffusion_jax/diffusion/losses.py",
        CHOICES,
        "`config.loss.kind`",
        undocumented=["cross_entropy"],  # of classifiers, chosen by their config
    ),
    Table(
        WEIGHTS,
        "WEIGHTS in diffusion_jax/diffusion/weights.py",
        CHOICES,
        "`config.loss.weight`",
        tested=cases.OF_X0,
        cases="OF_X0",
        untested=["uniform"],  # of the error of the target
    ),
    Table(
        TIMESTEP_SAMPLERS,
        "TIMESTEP_SAMPLERS in diffusion_jax/diffusion/timestep_samplers.py",
        CHOICES,
        "`config.timesteps.name`",
    ),
    Table(
        EMA_WEIGHTS, "EMA_WEIGHTS in diffusion_jax/training/ema.py", CHOICES, "`config.ema.name`"
    ),
    Table(
        MODELS,
        "MODELS in diffusion_jax/models/__init__.py",
        CHOICES,
        "`config.model.name`",
        tested=cases.SMALL_NETWORKS,
        cases="SMALL_NETWORKS",
    ),
    Table(
        BLOCKS,
        "BLOCKS in diffusion_jax/models/layers/block_chain.py",
        CHOICES,
        "`config.model.blocks`",
        tested=cases.CONDITIONED_ON,
        cases="CONDITIONED_ON",
    ),
    Table(
        METRICS | {"FID": None, "sFID": None},
        "METRICS in diffusion_jax/evaluation/feature_metrics.py",
        EVALUATING,
        "metric",
        tested=cases.PINNED,
        cases="PINNED",
        untested=["sFID"],  # the same distance
    ),
    Table(
        DATASETS,
        "DATASETS in diffusion_jax/data/sources.py",
        DATA,
        "`--config.data.name=`",
        tested=cases.DATASETS,
        cases="DATASETS",
        untested=["mnist", "imagenet64"],  # of files
    ),
]


def rows(table: Table) -> set[str]:
    """Returns the names in the first column of the docs' table."""
    lines = (ROOT / table.page).read_text().splitlines()
    heads = [at for at, line in enumerate(lines) if line.startswith(f"| {table.header} |")]
    assert len(heads) == 1, f"{table.page} must have one table whose first column is {table.header}"
    found = set()
    for line in lines[heads[0] + 2 :]:
        if not line.startswith("|"):
            break
        first = line.split("|")[1].strip()
        found |= {*(re.findall(r"`(.+?)`", first) or [first])}
    return {name for name in found if ":" not in name}  # such as `folder:PATH`


def check(missing: list[str]) -> None:
    if missing:
        pytest.fail("\n".join(missing), pytrace=False)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.place.split()[0])
def test_every_entry_has_a_row_in_the_docs_and_a_test_case(table):
    missing = []
    for name in table.entries:
        if name not in {*rows(table), *table.undocumented}:
            missing.append(f"Add a row for {name!r} to the table {table.header} of {table.page}")
        if table.tested is not None and name not in {*table.tested, *table.untested}:
            missing.append(f"Add a line for {name!r} to {table.cases} in tests/table_cases.py")
    check(missing)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.place.split()[0])
def test_every_row_and_test_case_has_an_entry(table):
    places = dict.fromkeys(rows(table), table.page)
    places |= dict.fromkeys(table.tested or (), "tests/table_cases.py")
    unknown = sorted(places.keys() - table.entries.keys())
    check([f"{places[name]} has {name!r}; add a line for it to {table.place}" for name in unknown])


def test_every_metric_has_a_test_of_its_definition():
    text = (ROOT / "tests/evaluation/test_metrics.py").read_text()
    functions = [
        name
        for name, function in inspect.getmembers(feature_metrics, inspect.isfunction)
        if function.__module__ == feature_metrics.__name__ and not name.startswith("_")
    ]
    untested = [name for name in functions if f"feature_metrics.{name}(" not in text]
    place = "tests/evaluation/test_metrics.py"
    check([f"Add a test of feature_metrics.{name} to {place}" for name in untested])


@pytest.mark.parametrize("name", MODELS)
def test_a_network_has_defaults(name):
    without = [
        field
        for field, parameter in inspect.signature(MODELS[name]).parameters.items()
        if parameter.default is parameter.empty and field not in ("channels", "num_classes")
    ]
    assert not without, f"{MODELS[name].__name__}.{without[0]} needs a default"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_defaults(name):
    without = [
        field.name
        for field in dataclasses.fields(BLOCKS[name])
        if field.default is dataclasses.MISSING and field.name != "features"
    ]
    assert not without, f"{BLOCKS[name].__name__}.{without[0]} needs a default"


def test_a_class_without_its_method_is_named():
    class NoBlock(Block):
        pass

    class NoNetwork(Network):
        pass

    x, cond = jnp.ones((1, 8, 8, 3)), Conditioning(time=None, label=None, examples=None)
    with pytest.raises(NotImplementedError, match="NoNetwork must implement `forward`"):
        jax.eval_shape(NoNetwork(3, 0).init, jax.random.key(0), x, jnp.ones(1))
    with pytest.raises(NotImplementedError, match="NoBlock must implement `__call__`"):
        jax.eval_shape(lambda x: NoBlock(3).init(jax.random.key(0), x, cond, train=False), x)


def test_names_without_a_table_line_are_named():
    known = ", ".join(BLOCKS)
    with pytest.raises(ValueError, match=f"'none' in blocks='res,none'; known blocks: {known}"):
        UNet(3, 0, blocks="res,none").check(64)
    with pytest.raises(ValueError, match=rf"model\.name=none must be one of {', '.join(MODELS)}"):
        model_section("none")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", 0, "model.width=0 must be at least 1"),
        ("width", 8.0, "model.width=8.0 must be of type int"),
        ("width", True, "model.width=True must be of type int"),
        ("dropout", 1.0, r"model.dropout=1.0 must be in \[0, 1\)"),
        ("dropout", "x", "model.dropout=x must be of type float"),
        ("blocks", 3, "model.blocks=3 must be of type str"),
        ("dtype", "float16", "model.dtype=float16 must be one of auto, float32, bfloat16"),
        ("remat", [64], r"model.remat=\[64\] must be positive whole numbers such as \(16, 8\)"),
        ("remat", (64, 0), r"model.remat=\(64, 0\) must be positive whole numbers"),
    ],
)
def test_a_constructor_names_the_field_and_the_allowed_values(field, value, message):
    with pytest.raises(ValueError, match=message):
        UNet(3, 0, **{field: value})
