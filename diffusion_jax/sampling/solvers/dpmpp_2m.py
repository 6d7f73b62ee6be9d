"""DPM-Solver++ 2M: second order with one evaluation per step, by remembering the last one."""

import jax.numpy as jnp

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Waypoint
from diffusion_jax.sampling.solver import History, Solver


def dpmpp_2m() -> Solver:
    """DPM-Solver++ (arXiv:2211.01095), algorithm 2, which remembers the last x0."""
    return Solver(init=jnp.zeros_like, step=dpmpp_2m_step)


def dpmpp_2m_step(
    denoiser: Denoiser,
    now: Waypoint,
    next: Waypoint,
    x: Images,
    fresh_noise: Images,
    history: History,
) -> tuple[Images, History]:
    """x_next = noise_next / noise x - signal_next (e^-h - 1) (x0 + h / (2 h_last) (x0 - x0_last)).

    h is the step in log(signal / noise), and h_last the one before. The first step has no x0_last,
    and in a step to the clean image h is infinite: both use x0 alone.
    """
    prediction = denoiser(x, now)
    h, h_last = per_image(next.log_snr_step), per_image(now.log_snr_step)
    # The original's cosine has equal levels at its clean end, where h and h_last are 0.
    second_order = jnp.isfinite(h) & jnp.isfinite(h_last) & (h_last != 0)
    share = jnp.where(second_order, h / (2 * jnp.where(h_last == 0, 1.0, h_last)), 0.0)
    extrapolated = prediction.x0 + share * (prediction.x0 - history)
    x = (
        per_image(next.sigma) / per_image(now.sigma) * x
        - per_image(next.alpha) * jnp.expm1(-h) * extrapolated
    )
    return x, prediction.x0
