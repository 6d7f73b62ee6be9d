"""EDM's stochastic sampler in float64 NumPy, and the states of a solver with given noises."""

import jax
import numpy as np

from diffusion_jax.diffusion.sampling_schedule import to_float32

CHURN = {"s_churn": 5.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}


def walk(solver, path, schedule, denoiser, x, noises):
    """Returns the state at the last level, with given noises, one for each step."""
    path, coefficients = to_float32((path, solver.prepare(path, schedule)))
    history = solver.init(x)
    step = jax.jit(lambda *args: solver.step(denoiser, *args))
    for i in range(path.num_steps):
        now, next, row = jax.tree.map(lambda rows: rows[i], (*path.pairs(), coefficients))  # noqa: B023
        x, history = step(now, next, row, x, noises[i], history)
    return x


def nonlinear_in_numpy(x, sigma):
    return np.tanh(x * (1 + 0.1 * np.sin(np.log(sigma) / 4))) * 0.8


def algorithm_2(
    x,
    noises,
    *,
    steps,
    sigma,
    second_order,
    s_churn,
    s_tmin,
    s_tmax,
    s_noise,
    D=nonlinear_in_numpy,
):
    """EDM (arXiv:2206.00364), algorithm 2, in float64, on numbers."""
    for i in range(steps):
        churns = s_tmin <= sigma[i] <= s_tmax
        gamma = min(s_churn / steps, np.sqrt(2) - 1) if churns else 0.0
        hat = sigma[i] * (1 + gamma)
        x = x + np.sqrt(hat**2 - sigma[i] ** 2) * s_noise * noises[i]
        d = (x - D(x, hat)) / hat
        end = x + (sigma[i + 1] - hat) * d
        if sigma[i + 1] > 0 and second_order:
            d_end = (end - D(end, sigma[i + 1])) / sigma[i + 1]
            end = x + (sigma[i + 1] - hat) * (d + d_end) / 2
        x = end
    return x
