"""Multi-step solvers against diffusers: the same levels, noises and model, every state compared."""

import pytest
import scheduler_golden as golden

from diffusion_jax.sampling import SOLVERS

FILE = "multistep_schedulers.npz"
# golden: (solver, its options).
RUNS = {
    "dpmpp_2m": ("dpmpp_2m", {}),
    "dpmpp_3m": ("dpmpp_3m", {}),
    "dpmpp_3m_full": ("dpmpp_3m", {"lower_order_final": False}),
    "dpmpp_3m_noisy_end": ("dpmpp_3m", {}),
    "dpmpp_sde_2m": ("dpmpp_sde_2m", {}),
    "unipc": ("unipc", {}),
    "unipc_1": ("unipc", {"order": 1}),
    "unipc_3": ("unipc", {"order": 3}),
    "unipc_bh1": ("unipc", {"variant": "bh1", "lower_order_final": True}),
    "unipc_3_bh1": ("unipc", {"order": 3, "variant": "bh1", "lower_order_final": True}),
    "unipc_full": ("unipc", {}),
}
PNDM_RUNS = {"pndm_heun": "heun", "pndm_runge_kutta": "runge_kutta"}


def error(name, schedule, steps, solver, predicts):
    """The largest difference to the scheduler's states, relative to their size at each level."""
    known = golden.load(name, schedule, steps, FILE)
    sampling_schedule = golden.variance_preserving(known)
    states = golden.follow(
        solver, golden.denoiser(predicts), sampling_schedule, golden.chain(schedule), known
    )
    return golden.distance(states, known.states)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("schedule", golden.SCHEDULES)
@pytest.mark.parametrize("steps", [5, 10, 14, 15, 25])
def test_every_state_is_that_of_the_scheduler(name, schedule, steps):
    solver, options = RUNS[name]
    assert error(name, schedule, steps, SOLVERS[solver](**options), schedule) < 1e-5


@pytest.mark.parametrize("name", PNDM_RUNS)
@pytest.mark.parametrize("schedule", golden.SCHEDULES)
@pytest.mark.parametrize("steps", golden.STEPS)
def test_every_state_is_that_of_pndm(name, schedule, steps):
    solver = SOLVERS["pndm"](warmup=PNDM_RUNS[name])
    assert error(name, schedule, steps, solver, "linear") < 1e-5
