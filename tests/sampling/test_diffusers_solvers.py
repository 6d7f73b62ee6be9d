"""Solvers against diffusers: the same levels, noises and model, every state compared."""

import numpy as np
import pytest
import scheduler_golden as golden

from diffusion_jax.diffusion.sampling_schedule import from_levels
from diffusion_jax.diffusion.types import Level
from diffusion_jax.sampling import SOLVERS

# golden: (solver, its options)
RUNS = {
    "ddim": ("ddim", {}),
    "ddim_half": ("ddim", {"eta": 0.5}),
    "heun": ("heun", {}),
    "dpmpp_2m": ("dpmpp_2m", {}),
    "euler": ("euler", {}),
    "euler_ancestral": ("euler_ancestral", {}),
    "ddpm_small": ("ddpm", {"variance": "small"}),
    "ddpm_large": ("ddpm", {"variance": "large"}),
    "ddpm_learned": ("ddpm", {"variance": "learned"}),
    "dpmpp_2s": ("dpmpp_2s", {}),
}
# Schedulers whose x is x0 + sigma eps.
IN_SIGMA = ("euler", "euler_ancestral", "heun")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("schedule", golden.SCHEDULES)
@pytest.mark.parametrize("steps", golden.STEPS)
def test_every_state_is_that_of_the_scheduler(name, schedule, steps):
    """To 5e-6 of its size at each level, in float32."""
    solver, options = RUNS[name]
    known = golden.load(name, schedule, steps)
    sampling_schedule = (
        golden.in_sigma(known) if name in IN_SIGMA else golden.variance_preserving(known)
    )
    states = golden.follow(
        SOLVERS[solver](**options),
        golden.denoiser(schedule, learned=name == "ddpm_learned"),
        sampling_schedule,
        golden.chain(schedule),
        known,
    )
    assert golden.distance(states, known.states) < 5e-6


@pytest.mark.parametrize("name", ["euler", "euler_ancestral"])
@pytest.mark.parametrize("solver", ["ddim", "itself"])
@pytest.mark.parametrize("schedule", golden.SCHEDULES)
def test_eulers_methods_do_not_depend_on_the_scale_of_x(name, solver, schedule):
    """Equal steps in variance-preserving scaling of the same sigma, as in DDIM."""
    known = golden.load(name, schedule, 10).variance_preserving()
    same_as_ddim = SOLVERS["ddim"](eta=float(name == "euler_ancestral"))
    states = golden.follow(
        same_as_ddim if solver == "ddim" else SOLVERS[name](),
        golden.denoiser(schedule),
        golden.variance_preserving(known),
        golden.chain(schedule),
        known,
    )
    assert golden.distance(states, known.states) < 5e-6


@pytest.mark.parametrize("schedule", golden.SCHEDULES)
@pytest.mark.parametrize("steps", golden.STEPS)
def test_ddim_inversion_of_diffusers_has_the_c_noise_of_the_next_level(schedule, steps):
    """Ours tells the network where x is; diffusers where it goes, and begins at the clean image."""
    known = golden.load("ddim_inverse", schedule, steps)
    follow = lambda sampling_schedule, known: golden.follow(  # noqa: E731
        SOLVERS["ddim"](),
        golden.denoiser(schedule),
        sampling_schedule,
        golden.chain(schedule),
        known,
    )
    sampling_schedule = golden.variance_preserving(known)
    assert golden.distance(follow(sampling_schedule, known), known.states) < 5e-6
    # The same levels as `reversed` has them, each with its own c_noise, are another trajectory.
    down = golden.load("ddim", schedule, steps)
    climbing = golden.variance_preserving(down).reversed().levels
    np.testing.assert_allclose(climbing.sigma, sampling_schedule.levels.sigma[1:], rtol=1e-6)
    np.testing.assert_array_equal(climbing.c_noise, known.c_noises[:-1])
    shifted = Level(climbing.alpha, climbing.sigma, np.append(climbing.c_noise[1:], -1))
    rest = golden.Golden(known.c_noises[1:], known.sigmas[1:], known.states[1:], known.noises)
    assert golden.distance(follow(from_levels(shifted), rest), rest.states) < 5e-6
    assert golden.distance(follow(from_levels(climbing), rest), rest.states) > 1e-4
