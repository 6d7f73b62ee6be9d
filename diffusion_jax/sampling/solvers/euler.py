"""Euler's method: first order, one evaluation of the denoiser per step."""

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.types import Denoiser, Images, Level, Scalar, Waypoint
from diffusion_jax.sampling.solver import Solver
from diffusion_jax.sampling.solvers.churn import churned


def euler(
    *,
    s_churn: Scalar = 0.0,
    s_tmin: Scalar = 0.0,
    s_tmax: Scalar = 0.0,
    s_noise: Scalar = 1.0,
) -> Solver:
    """Euler's method for any path, with the churn of EDM (arXiv:2206.00364), algorithm 2.

    Options and errors: see `churn.churned`.
    """
    return churned(euler_step, s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=s_noise)


def euler_step(
    denoiser: Denoiser, now: Level, next: Waypoint, x: Images, fresh_noise: Images
) -> Images:
    """x_next = x + (signal_next - signal) x0 + (noise_next - noise) eps, along the chord.

    That is signal_next x0 + noise_next eps, as it is computed, since x = signal x0 + noise eps:
    DDIM with eta = 0. Where the signal is 1 throughout, it is the Euler method of EDM
    (arXiv:2206.00364), section 3, x + (sigma_next - sigma) eps, and on any path it takes the same
    way as there: x / signal changes by the change of sigma times eps.
    """
    prediction = denoiser(x, now)
    return per_image(next.alpha) * prediction.x0 + per_image(next.sigma) * prediction.eps
