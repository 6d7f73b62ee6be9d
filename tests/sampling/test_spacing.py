"""Levels of all spacings, against the timesteps of published programs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from table_cases import CONTINUOUS, DISCRETE
from tiny import tiny_config

from benchmarks import mixture
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.overrides import settings_in_use
from diffusion_jax.config.schema import options_of
from diffusion_jax.diffusion.continuous_schedules import ContinuousSchedule
from diffusion_jax.diffusion.schedules import SCHEDULES as SCHEDULE_TABLE
from diffusion_jax.diffusion.schedules import Schedule, make_schedule
from diffusion_jax.diffusion.types import Level
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.sampling import SOLVERS, SPACINGS, make_sampling_schedule
from diffusion_jax.sampling.spacing import fixes_num_steps
from diffusion_jax.sampling.spacing.automatic import BEST, resolve_spacing

SCHEDULES = (*DISCRETE, *CONTINUOUS)
TIMED = ("continuous_cosine", "flow")
OF_CHAINS = ("centered", "sections")
OF_TIME = ("leading", "trailing", "linspace", "quadratic")
# What a spacing cannot do without. Both have three steps.
NEEDED = {"sections": {"sections": (2, 1)}, "list": {"sigmas": (14.6, 3, 0.2)}}
# Align Your Steps (arXiv:2404.14507) for Stable Diffusion 1.5.
AYS_SIGMAS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0)
AYS_TIMESTEPS = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]


def timesteps(spacing, steps, num_steps=1000, **options):
    """Returns the visited timesteps, counted from 0, without the clean image."""
    sampling_schedule = make_sampling_schedule(
        make_schedule("linear", num_steps), steps=steps, spacing=spacing, **options
    )
    assert sampling_schedule.num_steps == len(sampling_schedule.levels.c_noise) - 1
    return (sampling_schedule.levels.c_noise[:-1] - 1).tolist()


def sigmas(schedule, steps, spacing, **options):
    w = make_sampling_schedule(
        make_schedule(schedule), steps=steps, spacing=spacing, **options
    ).levels
    return (w.sigma / w.alpha)[:-1]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_spacing_on_every_schedule(name, spacing, steps):
    """Down to the clean image, in the requested number of steps, or with one clear error."""
    schedule, options = make_schedule(name), NEEDED.get(spacing, {})
    if spacing in OF_CHAINS and name in (*TIMED, "edm"):
        with pytest.raises(ValueError, match=f"spacing={spacing} needs a discrete schedule"):
            make_sampling_schedule(schedule, steps=steps, spacing=spacing, **options)
        return
    if spacing in OF_TIME and name == "edm":
        with pytest.raises(
            ValueError, match=f"spacing={spacing} .* choose ends, karras or log_snr"
        ):
            make_sampling_schedule(schedule, steps=steps, spacing=spacing, **options)
        return
    sampling_schedule = make_sampling_schedule(schedule, steps=steps, spacing=spacing, **options)
    w = sampling_schedule.levels
    own = fixes_num_steps(spacing, **options_of(SPACINGS[spacing]) | options)
    assert sampling_schedule.num_steps == (3 if own else steps)
    assert own == (spacing in NEEDED)
    assert (w.alpha[-1], w.sigma[-1], w.c_noise[-1]) == (1, 0, 0)
    assert np.all(np.diff(w.sigma / w.alpha) < 0)
    assert np.all(sampling_schedule.steps.log_snr_step > 0)


@dataclass(frozen=True)
class Exponential(ContinuousSchedule):
    """A schedule of a user: alpha = 1, sigma = e^u."""

    time_range = (-4.0, 4.0)
    sigma_range = (float(np.exp(-4.0)), float(np.exp(4.0)))

    def level(self, position, xp=jnp):
        return Level(xp.ones_like(position), xp.exp(position), position)

    def at_sigma(self, sigma, xp=np):
        return self.level(xp.log(sigma), xp)

    def sampling_schedule(self, steps):
        return self.visit(np.linspace(*self.time_range, steps))


@pytest.mark.parametrize("spacing", [name for name in SPACINGS if name not in OF_CHAINS])
def test_a_new_schedule_works_with_every_spacing(spacing):
    assert isinstance(Exponential(), Schedule)
    options = NEEDED.get(spacing, {})
    sampling_schedule = make_sampling_schedule(Exponential(), steps=3, spacing=spacing, **options)
    assert sampling_schedule.num_steps == 3
    assert np.all(np.diff(sampling_schedule.levels.sigma) < 0)
    assert sampling_schedule.levels.sigma[-1] == 0


# Timesteps that set_timesteps of diffusers 0.42.1, DDIMScheduler, gives for T = 1000.
DIFFUSERS = {
    ("leading", 5): [800, 600, 400, 200, 0],
    ("trailing", 5): [999, 799, 599, 399, 199],
    ("linspace", 5): [999, 749, 500, 250, 0],
    ("leading", 10): [900, 800, 700, 600, 500, 400, 300, 200, 100, 0],
    ("trailing", 10): [999, 899, 799, 699, 599, 499, 399, 299, 199, 99],
    ("linspace", 10): [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
    ("leading", 50): list(range(980, -1, -20)),
    ("trailing", 50): list(range(999, 0, -20)),
    ("linspace", 50): [
        *(999, 979, 958, 938, 917, 897, 877, 856, 836, 816, 795, 775, 754, 734, 714, 693, 673),
        *(652, 632, 612, 591, 571, 550, 530, 510, 489, 469, 449, 428, 408, 387, 367, 347, 326),
        *(306, 285, 265, 245, 224, 204, 183, 163, 143, 122, 102, 82, 61, 41, 20, 0),
    ],
    ("leading", 7): [852, 710, 568, 426, 284, 142, 0],
    ("trailing", 7): [999, 856, 713, 570, 428, 285, 142],
    ("linspace", 7): [999, 832, 666, 500, 333, 166, 0],
} | {(spacing, 1000): list(range(999, -1, -1)) for spacing in ("leading", "trailing", "linspace")}


@pytest.mark.parametrize(("spacing", "steps"), DIFFUSERS)
def test_timesteps_of_diffusers(spacing, steps):
    assert timesteps(spacing, steps) == DIFFUSERS[spacing, steps]


def test_steps_offset_moves_all_steps():
    """As for Stable Diffusion, whose scheduler has steps_offset = 1."""
    moved = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert timesteps("leading", 10, steps_offset=1) == moved
    assert timesteps("leading", 10, steps_offset=99)[0] == 999


def test_trailing_has_no_step_too_many():
    """1000 / (1000 / 61) is just above 61, so that a naive range has a step too many."""
    assert len(np.arange(1000, 0, -1000 / 61)) == 62
    assert len(timesteps("trailing", 61)) == 61
    assert timesteps("trailing", 61)[-1] == 15


def space_timesteps(num_steps, counts):
    """Improved DDPM's sections, from 0, as openai/improved-diffusion counts them."""
    found, first = [], 0
    for i, count in enumerate(counts):
        length = num_steps // len(counts) + (1 if i < num_steps % len(counts) else 0)
        place = 0.0
        for _ in range(count):
            found.append(first + round(place))
            place += (length - 1) / (count - 1) if count > 1 else 1
        first += length
    return found


@pytest.mark.parametrize(
    ("num_steps", "counts"),
    [
        *((1000, (count,)) for count in (1, 7, 25, 31, 50, 250, 1000)),
        *((1000, counts) for counts in ((10, 15, 20), (10, 10, 8), (10, 10, 3, 2, 2), (0, 1, 5))),
        *((37, counts) for counts in ((36,), (10, 9, 9, 3))),
        *((4000, counts) for counts in ((100,), (90, 60, 60, 20, 20))),
    ],
)
def test_sections_of_improved_diffusion(num_steps, counts):
    expected = space_timesteps(num_steps, counts)
    found = timesteps("sections", 1, num_steps, sections=counts)
    assert found[::-1] == expected
    assert len(set(expected)) == len(expected)


def test_published_lists_of_sections():
    """The expected values are from openai/improved-diffusion for T = 1000 and 300."""
    found = timesteps("sections", 1, sections=(25,))[::-1]
    assert found[:13] == [0, 42, 83, 125, 166, 208, 250, 291, 333, 375, 416, 458, 500]
    assert found[13:] == [541, 583, 624, 666, 708, 749, 791, 832, 874, 916, 957, 999]
    found = timesteps("sections", 1, sections=(10, 10, 8))[::-1]
    assert found[:10] == [0, 37, 74, 111, 148, 185, 222, 259, 296, 333]
    assert found[10:20] == [334, 371, 408, 445, 482, 518, 555, 592, 629, 666]
    assert found[20:] == [667, 714, 762, 809, 857, 904, 952, 999]
    found = timesteps("sections", 1, 300, sections=(10, 15, 20))[::-1]
    assert found[:12] == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 100, 107]
    assert found[-6:] == [273, 278, 283, 289, 294, 299]


@pytest.mark.parametrize("steps", [2, 10, 16, 20, 26, 29])
def test_quadratic_steps_of_ddim(steps):
    """The program of the paper, from 0.8 T, as long as it visits no step twice."""
    published = [int(t) for t in np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2]
    assert timesteps("quadratic", steps, reach=0.8)[::-1] == published


def test_quadratic_steps_are_distinct():
    assert timesteps("quadratic", 11)[::-1] == [int(9.99 * k**2) for k in range(11)]
    assert timesteps("quadratic", 1000) == list(range(999, -1, -1))
    found = timesteps("quadratic", 100, reach=0.8)[::-1]
    assert found[:12] == list(range(12))
    later = np.linspace(0, np.sqrt(800), 100)[40:] ** 2
    assert found[40:] == later.astype(int).tolist()
    assert_allclose(sigmas("flow", 5, "quadratic")[:4], [99999, 9 / 7, 1 / 3, 1 / 15], rtol=1e-3)


def test_in_the_time_of_continuous_schedules():
    def times(spacing, **options):
        sampling_schedule = make_sampling_schedule(
            make_schedule("flow"), steps=4, spacing=spacing, **options
        )
        return sampling_schedule.levels.sigma

    assert_allclose(times("trailing"), [1, 0.75, 0.5, 0.25, 0], atol=2e-5)
    assert_allclose(times("leading"), [0.75, 0.5, 0.25, 1e-5, 0], atol=2e-5)
    assert_allclose(times("linspace"), [1, 2 / 3, 1 / 3, 1e-5, 0], atol=2e-5)
    assert_allclose(times("quadratic", reach=0.9), [0.9, 0.4, 0.1, 1e-5, 0], atol=2e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_is_even(name):
    found = np.log(sigmas(name, 9, "log_snr", sigma_min=0.1, sigma_max=50.0))
    assert_allclose(found, np.linspace(np.log(50), np.log(0.1), 9), rtol=1e-9)
    smallest, largest = make_schedule(name).sigma_range
    found = sigmas(name, 9, "log_snr")
    assert_allclose(found[[0, -1]], [min(largest, 80), max(smallest, 0.002)], rtol=1e-9)


def test_lists_are_visited_exactly():
    """Timesteps agree with the program that published them; sigmas are noise / signal."""
    assert timesteps("list", 1, timesteps=tuple(AYS_TIMESTEPS)) == AYS_TIMESTEPS
    found = sigmas("cosine", 1, "list", sigmas=AYS_SIGMAS)
    assert_allclose(found, AYS_SIGMAS[:-1], rtol=1e-9)
    # Stable Diffusion's own schedule gives the one list from the other.
    alphas_bar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    of_timesteps = np.sqrt(1 / alphas_bar - 1)[AYS_TIMESTEPS]
    assert_allclose(of_timesteps, found, rtol=0.02)


def test_lists_are_interpolated_log_linearly():
    """As Align Your Steps recommends for other numbers of steps."""
    found = sigmas("edm", 4, "list", sigmas=(16, 1, 0.25), interpolate=True)
    assert_allclose(found, [16, 16 ** (1 / 3), 4 ** (-1 / 3), 0.25], rtol=1e-9)
    assert_allclose(sigmas("edm", 3, "list", sigmas=(16, 1, 0.25), interpolate=True), [16, 1, 0.25])
    of_timesteps = sigmas("linear", 3, "list", timesteps=(999, 0), interpolate=True)
    chain = sigmas("linear", 1000, "ends")
    assert_allclose(of_timesteps, [chain[0], np.sqrt(chain[0] * chain[-1]), chain[-1]], rtol=1e-9)


@pytest.mark.parametrize("spacing", OF_TIME)
def test_a_chain_has_no_more_steps(spacing):
    with pytest.raises(ValueError, match=r"steps=101 is not in 1\.\.100, the length of the chain"):
        timesteps(spacing, 101, 100)


@pytest.mark.parametrize(
    ("spacing", "options", "message"),
    [
        ("leading", {"steps_offset": 100}, "leads to step 1001 of a chain of 1000; .* up to 99"),
        ("leading", {"steps_offset": -1}, "steps_offset=-1 must be at least 0"),
        ("quadratic", {"reach": 0.0}, "reach=0.0 must be above 0, up to 1"),
        ("quadratic", {"reach": 0.005}, "steps=10 is more than the 6 steps within reach=0.005"),
        ("log_snr", {"sigma_min": 90.0}, "sigma_min=90.0 must be less than sigma_max=80.0"),
        ("karras", {"sigma_max": np.inf}, "sigma_max=inf, and both positive"),
        ("sections", {}, r"sections=\(\) must be numbers of steps"),
        ("sections", {"sections": (10, -1)}, r"sections=\(10, -1\) must be numbers of steps"),
        ("sections", {"sections": (0, 0)}, r"sections=\(0, 0\) must be numbers of steps"),
        ("sections", {"sections": (10, 501)}, "501 steps in a section of 500"),
        ("list", {}, "either sigmas, such as .* or timesteps"),
        ("list", {"sigmas": (2, 1), "timesteps": (5,)}, "either sigmas, such as .* or timesteps"),
        ("list", {"sigmas": (2, 1, 1)}, r"sigmas=\(2, 1, 1\) must decrease"),
        ("list", {"sigmas": (2, 0, -1)}, "must be finite and positive; only the last can be 0"),
        ("list", {"sigmas": (0,)}, "must be finite and positive"),
        ("list", {"sigmas": (np.nan,)}, "must be finite and positive"),
        ("list", {"timesteps": (9, 4.5)}, r"timesteps=\(9, 4.5\) must be whole numbers"),
        ("list", {"timesteps": (1000, 5)}, r"must be in 0\.\.999, counted from 0"),
        ("list", {"timesteps": (5, -1)}, r"must be in 0\.\.999, counted from 0"),
        ("list", {"sigmas": (5,), "interpolate": True}, "One level cannot be interpolated"),
    ],
)
def test_mistakes_are_named(spacing, options, message):
    with pytest.raises(ValueError, match=message):
        timesteps(spacing, 10, **options)


def test_mistakes_on_continuous_schedules():
    with pytest.raises(ValueError, match="steps_offset=1 needs a discrete schedule"):
        sigmas("flow", 3, "leading", steps_offset=1)
    with pytest.raises(ValueError, match=r"timesteps=\(9, 4\) needs .* give sigmas"):
        sigmas("flow", 3, "list", timesteps=(9, 4))
    with pytest.raises(ValueError, match="reach=2"):
        sigmas("flow", 3, "quadratic", reach=2.0)


def test_auto_is_the_spacing_of_solver_and_schedule():
    config = tiny_config(sampling__steps=10)
    assert config.sampling.spacing == "auto"
    for solver, schedule, spacing in (
        ("dpmpp_2m", "cosine", "trailing"),
        ("original", "cosine", "ends"),
        ("dpmpp_2m", "linear", "log_snr"),
        ("ddim", "linear", "quadratic"),
        ("unipc", "edm", "log_snr"),
        ("heun", "edm", "ends"),
        ("unipc", "flow", "ends"),
    ):
        fields = {"sampling.solver": solver, "schedule.name": schedule, "loss.kind": "simple"}
        found = Experiment.from_config(with_settings(config, fields))
        wanted = Experiment.from_config(
            with_settings(config, fields | {"sampling.spacing": spacing})
        )
        assert settings_in_use(found) == settings_in_use(wanted)
        assert settings_in_use(found)["spacing"] == spacing
        levels = found.sampling.sampling_schedule.levels, wanted.sampling.sampling_schedule.levels
        for a, b in zip(*map(jax.tree.leaves, levels)):
            assert_array_equal(a, b)
    assert resolve_spacing("karras", "heun", "cosine") == "karras"
    assert resolve_spacing("auto", "heun", "my_schedule") == "ends"


def test_auto_names_solvers_schedules_and_spacings_that_exist():
    assert BEST.keys() == SCHEDULE_TABLE.keys()
    for by_solver in BEST.values():
        assert by_solver.keys() <= {"", *SOLVERS}
        assert set(by_solver.values()) <= SPACINGS.keys()


@pytest.mark.parametrize("schedule", ["cosine", "linear", "edm"])
@pytest.mark.parametrize("solver", ["dpmpp_2m", "unipc"])
def test_auto_is_closer_to_the_data_than_ends(solver, schedule):
    """With an exact denoiser and 10 steps."""
    made, training = SOLVERS[solver](), make_schedule(schedule)

    def distance(spacing):
        path = make_sampling_schedule(training, steps=10, spacing=spacing)
        return mixture.distances(made, path, training)[0]

    assert distance(resolve_spacing("auto", solver, schedule)) < 0.5 * distance("ends")
