"""Names that other programs give to settings."""

import inspect

from diffusion_jax.config import named_configs
from diffusion_jax.config.other_names import OTHER_NAMES, guess, nearest
from diffusion_jax.config.overrides import SHORTHANDS, option_names
from diffusion_jax.config.schema import flatten
from diffusion_jax.runs.run import Run

FIELDS = flatten(named_configs.get_config("base"))


def test_each_leads_to_a_name_that_exists():
    last = {name.rpartition(".")[2] for name in FIELDS}
    arguments = set(inspect.signature(Run.sample).parameters)
    flags = {"checkpoint", "out", "workdir"}
    known = last | arguments | flags | set(SHORTHANDS) | option_names()
    assert set(OTHER_NAMES.values()) <= known
    assert not set(OTHER_NAMES) & (last | arguments)


def test_the_last_part_of_a_dotted_name_decides():
    assert nearest("lr", FIELDS) == ["optimizer.learning_rate"]
    assert set(nearest("epochs", FIELDS)) == {"steps", "sampling.steps"}
    assert nearest("optimizer.lr", FIELDS) == ["optimizer.learning_rate"]
    assert nearest("model.widht", FIELDS) == ["model.width"]
    assert nearest("nothing_like_it", FIELDS) == []


def test_a_guess_is_a_question_or_nothing():
    assert guess("sampler", ["solver", "steps"]) == "; did you mean solver?"
    assert guess("nothing_like_it", ["solver"]) == ""
