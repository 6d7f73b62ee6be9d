"""Number of network evaluations (NFE) of a solver, counted by running it."""

import jax
import jax.numpy as jnp
from jax.experimental import io_callback

from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Images, Level, Prediction
from diffusion_jax.sampling.loop import sample
from diffusion_jax.sampling.solver import Solver


def count_evaluations(
    solver: Solver, sampling_schedule: SamplingSchedule, schedule: Schedule
) -> int:
    """Returns the number of denoiser calls that the solver executes for one image.

    The solver runs on an image of one pixel, with the exact denoiser of standard normal data. A
    call in a branch of `jax.lax.cond` counts if the branch is taken. The two passes of guidance are
    one call.
    """
    calls = []

    def denoiser(x: Images, level: Level) -> Prediction:
        # Unlike a debugging callback, it runs exactly as often as the program gets here.
        io_callback(lambda: calls.append(None), None)
        alpha, sigma = per_image(level.alpha), per_image(level.sigma)
        power = jnp.square(alpha) + jnp.square(sigma)
        return Prediction(alpha / power * x, sigma / power * x)

    one = keys.per_example(jax.random.key(0), jnp.arange(1))
    coefficients = solver.prepare(sampling_schedule, schedule)
    jax.block_until_ready(sample(solver, denoiser, sampling_schedule, coefficients, one, (1, 1, 1)))
    jax.effects_barrier()
    return len(calls)
