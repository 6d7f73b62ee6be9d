"""Schedule and variational bound of gmongaras/Diffusion_models_from_scratch."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.discrete_schedules import DiscreteSchedule, Table, from_alphas_bar
from diffusion_jax.diffusion.process import (
    clip_prediction,
    mean_per_example,
    p_distribution,
    q_posterior,
)
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Images, PerExample, Prediction

# The interval that beta is clipped into; alpha-bar is not clipped again.
BETA_BOUNDS = (1e-10, 0.999)


def original_cosine_alphas_bar(num_steps: int) -> Table:
    """Returns the cosine alpha-bar of gmongaras/Diffusion_models_from_scratch.

    alpha-bar_t = clip(f(t/T) / f(0), 1e-10, 0.999), at t = 0 too: the first 13 of 1000 steps are
    identical and samples keep noise of standard deviation sqrt(0.001).

    The result is float32 with the very bits of PyTorch, because beta = 1 - alpha-bar_t /
    alpha-bar_{t-1} loses most digits: another last bit of alpha-bar changes a small beta by 0.1 %.
    PyTorch's cosine is the correctly rounded one but for a unit in the last place here and there;
    `original_cosine.npz` lists where, for T up to 1000 and multiples of 250 up to 5000 (PyTorch
    2.15 on a CPU with AVX-512). For other T a few entries may differ in the last bit.
    """
    float32 = np.float32
    fraction = np.arange(num_steps + 1, dtype=float32) / float32(num_steps)
    angle = (fraction + float32(0.008)) / float32(1.008) * float32(np.pi) / float32(2)
    cosine = np.cos(angle.astype(np.float64)).astype(float32)
    with np.load(Path(__file__).with_name("original_cosine.npz")) as table:
        here = table["num_steps"] == num_steps
        bits = cosine.view(np.int32)
        bits[table["index"][here]] += table["units"][here]
    square = cosine * cosine
    return np.clip(square / square[0], float32(1e-10), float32(0.999))


def original_cosine(num_steps: int) -> DiscreteSchedule:
    """Returns the schedule with this alpha-bar; beta is clipped to [1e-10, 0.999]."""
    table = original_cosine_alphas_bar(num_steps)
    return from_alphas_bar(table, np.arange(num_steps + 1), BETA_BOUNDS)


def original_vlb(
    step: StepCoefficients, x0: Images, x: Images, prediction: Prediction
) -> PerExample:
    """Computes a term of the original's variational bound, mean nats.

    log(sd_p / sd_q) + (var_q + (mean_q - mean_p)^2) / (2 var_p) - 1/2, at t = 1 as everywhere, with
    the predicted x0 clipped to [-1, 1] in mean_p.
    """
    p = p_distribution(step, clip_prediction(prediction), x)
    q = q_posterior(step, x0, x)
    log_ratio = 0.5 * (p.log_variance - q.log_variance)
    spread = jnp.exp(q.log_variance) + jnp.square(q.mean - p.mean)
    return mean_per_example(log_ratio + spread / (2 * jnp.exp(p.log_variance)) - 0.5)
