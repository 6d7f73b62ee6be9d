"""Parameterizations: the target of a network, such as eps or x0.

A parameterization is three functions of the level. `scale_input` is the factor of x in the input of
the network, `target` the quantity to estimate, and `solve` turns the estimate into x0 and eps. They
hold at any level x = alpha x0 + sigma eps, for any alpha^2 + sigma^2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_positive
from diffusion_jax.diffusion.process import eps_from_x0, per_image, x0_from_eps
from diffusion_jax.diffusion.types import (
    CNoise,
    Condition,
    ConditionalDenoiser,
    Images,
    Level,
    NetworkFunction,
    NetworkOutput,
    PerImage,
    Prediction,
)


@dataclass(frozen=True)
class Parameterization:
    """The target of a network.

    scale_input: level -> factor. target: (level, x0, eps) -> target. solve: (level, x, estimate of
    the target) -> (x0, eps).
    """

    scale_input: Callable[[Level], PerImage]
    target: Callable[[Level, Images, Images], Images]
    solve: Callable[[Level, Images, Images], tuple[Images, Images]]


def unit_variance(level: Level) -> PerImage:
    """1 / sqrt(alpha^2 + sigma^2), which gives x variance 1 for data of variance 1."""
    square = jnp.square(per_image(level.alpha)) + jnp.square(per_image(level.sigma))
    # Variance-preserving levels miss 1 only by float32's rounding: leave x unchanged there.
    return jnp.where(jnp.abs(square - 1) < 1e-6, 1.0, 1 / jnp.sqrt(square))


def unchanged(level: Level) -> PerImage:
    """Returns 1: the input of the network is x."""
    return jnp.ones_like(per_image(level.alpha))


def eps() -> Parameterization:
    """The target is eps. DDPM (arXiv:2006.11239), section 3.2."""
    return Parameterization(
        unit_variance,
        lambda level, x0, eps: eps,
        lambda level, x, estimate: (x0_from_eps(level, x, estimate), estimate),
    )


def x0() -> Parameterization:
    """The target is x0."""
    return Parameterization(
        unit_variance,
        lambda level, x0, eps: x0,
        lambda level, x, estimate: (estimate, eps_from_x0(level, x, estimate)),
    )


def v() -> Parameterization:
    """The target is alpha eps - sigma x0. Progressive distillation (arXiv:2202.00512), app. D."""

    def target(level: Level, x0: Images, eps: Images) -> Images:
        return per_image(level.alpha) * eps - per_image(level.sigma) * x0

    def solve(level: Level, x: Images, v: Images) -> tuple[Images, Images]:
        a, s = per_image(level.alpha), per_image(level.sigma)
        square = a**2 + s**2
        return (a * x - s * v) / square, (s * x + a * v) / square

    return Parameterization(unit_variance, target, solve)


def velocity() -> Parameterization:
    """The target is eps - x0, the velocity dx/du of a flow with alpha = 1 - u and sigma = u.

    Rectified flow (arXiv:2209.03003), eq. 1, with reversed time.
    """

    def target(level: Level, x0: Images, eps: Images) -> Images:
        return eps - x0

    def solve(level: Level, x: Images, velocity: Images) -> tuple[Images, Images]:
        a, s = per_image(level.alpha), per_image(level.sigma)
        return (x - s * velocity) / (a + s), (x + a * velocity) / (a + s)

    return Parameterization(unchanged, target, solve)


def edm(*, sigma_data: float = 0.5) -> Parameterization:
    """The target is F in x0 = c_skip x + c_out F(c_in x). EDM (arXiv:2206.00364), eq. 7.

    With r^2 = sigma^2 + alpha^2 sigma_data^2: c_in = 1 / r, c_skip = alpha sigma_data^2 / r^2 and
    c_out = sigma sigma_data / r, as in table 1 where alpha = 1. c_noise is the schedule's.
    sigma_data: the standard deviation of the data.
    """

    check_positive(sigma_data=sigma_data)

    def scale_input(level: Level) -> PerImage:
        return 1 / _root(level, sigma_data)

    def target(level: Level, x0: Images, eps: Images) -> Images:
        a, s = per_image(level.alpha), per_image(level.sigma)
        return (s * x0 - a * sigma_data**2 * eps) / (sigma_data * _root(level, sigma_data))

    def solve(level: Level, x: Images, estimate: Images) -> tuple[Images, Images]:
        a, s = per_image(level.alpha), per_image(level.sigma)
        r = _root(level, sigma_data)
        x0 = a * sigma_data**2 / r**2 * x + s * sigma_data / r * estimate
        return x0, s / r**2 * x - a * sigma_data / r * estimate

    return Parameterization(scale_input, target, solve)


def _root(level: Level, sigma_data: float) -> PerImage:
    """r = sqrt(sigma^2 + alpha^2 sigma_data^2), the standard deviation of x."""
    alpha, sigma = per_image(level.alpha), per_image(level.sigma)
    return jnp.sqrt(sigma**2 + (alpha * sigma_data) ** 2)


# The choices of `config.parameterization.name`. Options are keyword arguments, and a section.
PARAMETERIZATIONS: dict[str, Callable[..., Parameterization]] = {
    "eps": eps,
    "x0": x0,
    "v": v,
    "velocity": velocity,
    "edm": edm,
}


def apply_network(
    network: NetworkFunction,
    parameterization: Parameterization,
    x: Images,
    level: Level,
    condition: Condition,
) -> NetworkOutput:
    """Applies the network to x; returns its output in the dtype of x."""
    output = network(*network_inputs(parameterization, x, level), condition)
    return jax.tree.map(lambda array: array.astype(x.dtype), output)


def network_inputs(
    parameterization: Parameterization, x: Images, level: Level
) -> tuple[Images, CNoise]:
    """Returns the inputs of a network: (scaled x, c_noise of each image)."""
    c_noise = jnp.broadcast_to(jnp.asarray(level.c_noise, jnp.float32), x.shape[:1])
    return x * parameterization.scale_input(level), c_noise


def to_prediction(
    parameterization: Parameterization, x: Images, level: Level, output: NetworkOutput
) -> Prediction:
    """Converts a network output to x0 and eps, with the learned variance."""
    x0, eps = parameterization.solve(level, x, output.estimate)
    return Prediction(x0, eps, output.variance_fraction, output.log_variance)


def denoiser_from_network(
    network: NetworkFunction, parameterization: Parameterization
) -> ConditionalDenoiser:
    """Returns the denoiser of a network."""

    def denoiser(x: Images, level: Level, condition: Condition) -> Prediction:
        output = apply_network(network, parameterization, x, level, condition)
        return to_prediction(parameterization, x, level, output)

    return denoiser
