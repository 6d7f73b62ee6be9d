"""The words that all parts of the library share: levels, predictions, denoisers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key, Num, PyTree

# A field of a pytree: an array, or whatever JAX puts in its place while it takes the tree apart.
Leaf = Any

Images = Float[Array, "batch height width channels"]
Features = Float[Array, "batch height width features"]  # of another number of channels
Steps = Int[Array, "batch"]
CNoise = Num[Array, "batch"]
Labels = Int[Array, "batch"]
Keys = Key[Array, "batch"]
PerExample = Float[Array, "batch"]
PerImage = Float[Array, ""] | Float[Array, "batch 1 1 1"]
Scalar = float | Float[Array, ""]

# What images are conditioned on: a pytree of rows, such as labels (batch,); None for nothing.
Condition = PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    """Where an image stands between data and noise: x = signal x0 + noise eps, eps ~ N(0, I).

    c_noise: what the network is told about it. Each field is one number for the whole batch (when
    sampling), or (batch,) (when training).
    """

    alpha: Leaf
    sigma: Leaf
    c_noise: Leaf


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NetworkOutput:
    """What a network returns for x, in terms of its parameterization.

    estimate: of the parameterization's target (the noise, say), (batch, height, width, channels).
    variance_fraction: v of Improved DDPM (arXiv:2102.09672, eq. 15), the place of log sigma^2
        between log beta-tilde (0) and log beta (1), unbounded; None if it is not what is learned.
    log_variance: log sigma^2 itself, where the network learns that instead.
    uncertainty: u of EDM2 (arXiv:2312.02696, eq. 14), (batch,), the logarithm of the loss that the
    network expects; None if it has no idea.
    """

    estimate: Leaf
    variance_fraction: Leaf = None
    log_variance: Leaf = None
    uncertainty: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prediction:
    """What a denoiser returns: estimates of x0 and eps in x = signal x0 + noise eps.

    Both are kept, so that a wrapper can change one of them alone (clip x0, for example). A learned
    variance is as in `NetworkOutput`.
    """

    x0: Leaf
    eps: Leaf
    variance_fraction: Leaf = None
    log_variance: Leaf = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over images; log_variance broadcasts against mean."""

    mean: Leaf
    log_variance: Leaf


# (x, level) -> Prediction. What depends on the level alone is the same for the whole batch.
Denoiser = Callable[[Images, Level], Prediction]

# (x, level, condition) -> Prediction: a denoiser that still has to be told the condition.
ConditionalDenoiser = Callable[[Images, Level, Condition], Prediction]

# (scaled x, c_noise (batch,), condition) -> NetworkOutput.
NetworkFunction = Callable[[Images, CNoise, Condition], NetworkOutput]
