"""How many evaluations of the denoiser a solver takes, counted while it runs."""

import jax
import jax.numpy as jnp
from jax.experimental import io_callback

from diffusion_jax.diffusion import keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Images, Level, Prediction
from diffusion_jax.sampling.loop import sample
from diffusion_jax.sampling.solver import Solver


def count_evaluations(solver: Solver, path: Path) -> int:
    """Calls of the denoiser that were executed for one image on its way along the path.

    The path is followed on an image of one pixel, with the denoiser of standard normal data. A
    call in a branch counts only where the branch was taken. Guidance happens within the denoiser:
    its second pass, of the null condition or of a weaker model, belongs to the same call. path: as
    the solver has prepared it, see `Solver`.
    """
    calls = []

    def denoiser(x: Images, level: Level) -> Prediction:
        # Unlike a debugging callback, it runs exactly as often as the program gets here.
        io_callback(lambda: calls.append(None), None)
        signal, noise = per_image(level.alpha), per_image(level.sigma)
        power = jnp.square(signal) + jnp.square(noise)
        return Prediction(signal / power * x, noise / power * x)

    one = keys.per_example(jax.random.key(0), jnp.arange(1))
    jax.block_until_ready(sample(solver, denoiser, path, one, (1, 1, 1)))
    jax.effects_barrier()
    return len(calls)
