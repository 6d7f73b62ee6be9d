"""Shared types: levels, predictions, denoisers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key, Num, PyTree

# A field of a registered dataclass: an array, or an object that JAX puts there in tree operations.
Leaf = Any

Images = Float[Array, "batch height width channels"]
Features = Float[Array, "batch height width features"]  # of another number of channels
Timesteps = Int[Array, "batch"]
CNoise = Num[Array, "batch"]
Labels = Int[Array, "batch"]
Keys = Key[Array, "batch"]
PerExample = Float[Array, "batch"]
PerImage = Float[Array, ""] | Float[Array, "batch 1 1 1"]
Scalar = float | Float[Array, ""]

# Conditioning of the images: a pytree of arrays (batch, ...), such as labels (batch,), or None.
Condition = PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """A noise level: x = alpha x0 + sigma eps, eps ~ N(0, I).

    EDM's sigma is sigma / alpha. c_noise is the noise conditioning of the network: the timestep t,
    log(sigma) / 4 for EDM. Fields are scalars in sampling and (batch,) in training.
    """

    alpha: Leaf
    sigma: Leaf
    c_noise: Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NetworkOutput:
    """The output of a network.

    Args:
        estimate: estimate of the parameterization's target, such as eps, in the shape of x.
        variance_fraction: v of Improved DDPM (arXiv:2102.09672, eq. 15), which interpolates log
            sigma^2 between log beta-tilde (v = 0) and log beta (v = 1), in the shape of x; None if
            not predicted.
        log_variance: log sigma^2 itself, in the shape of x; None if not predicted.
        uncertainty: u of EDM2 (arXiv:2312.02696, eq. 14), the predicted log of the loss, (batch,);
            None if not predicted.
    """

    estimate: Leaf
    variance_fraction: Leaf = None
    log_variance: Leaf = None
    uncertainty: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prediction:
    """The estimates of a denoiser: x0 and eps in x = alpha x0 + sigma eps.

    Both are kept, so that a wrapper can change one alone, such as clip x0. The learned variance is
    as in `NetworkOutput`.

    mean_gradient: g for a solver that adds its variance times g to the mean of its step, see
        `classifier_guidance.shifted_mean`; None for nothing to add.
    """

    x0: Leaf
    eps: Leaf
    variance_fraction: Leaf = None
    log_variance: Leaf = None
    mean_gradient: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over images; log_variance broadcasts against mean."""

    mean: Leaf
    log_variance: Leaf


# (x, level) -> Prediction.
Denoiser = Callable[[Images, Level], Prediction]

# (x, level, condition) -> Prediction.
ConditionalDenoiser = Callable[[Images, Level, Condition], Prediction]

# (scaled x, c_noise (batch,), condition) -> NetworkOutput.
NetworkFunction = Callable[[Images, CNoise, Condition], NetworkOutput]
