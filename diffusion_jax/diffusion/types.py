"""Words that the columns of the library exchange: what a denoiser is asked and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

# A field of a pytree: an array, or whatever JAX puts in its place while it takes the tree apart.
Leaf = Any

Images = Float[Array, "batch height width channels"]
Features = Float[Array, "batch height width features"]  # of another number of channels
Steps = Int[Array, "batch"]
Labels = Int[Array, "batch"]
Keys = Key[Array, "batch"]
PerExample = Float[Array, "batch"]
Scalar = Float[Array, ""] | float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NetworkOutput:
    """What a network says about x_t, in its own terms.

    noise: the estimate of the noise in x_t, (batch, height, width, channels).
    variance_fraction: v of Improved DDPM (arXiv:2102.09672, eq. 15), the place of log sigma^2
        between log beta-tilde (0) and log beta (1), unbounded; None if the variance is fixed.
    """

    noise: Leaf
    variance_fraction: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prediction:
    """What a denoiser answers: both halves of x_t = sqrt(abar) x0 + sqrt(1 - abar) noise.

    They are kept side by side, so that a wrapper may change one of them alone (clipping x0, say).
    """

    x0: Leaf
    noise: Leaf
    variance_fraction: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over images; log_variance broadcasts against mean."""

    mean: Leaf
    log_variance: Leaf


# (x_t, t) -> Prediction, where t (batch,) counts steps of the chain being run, 1 .. num_steps.
Denoiser = Callable[[Images, Steps], Prediction]

# (x_t, t, labels) -> Prediction: a denoiser that still has to be told the labels.
LabelledDenoiser = Callable[[Images, Steps, Labels | None], Prediction]
