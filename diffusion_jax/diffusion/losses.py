"""Training losses: one number per example, in mean nats per dimension where they are likelihoods.

"Improved DDPM" is arXiv:2102.09672.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from diffusion_jax.diffusion.checks import check_positive
from diffusion_jax.diffusion.original import original_vlb
from diffusion_jax.diffusion.process import (
    FIXED_VARIANCES,
    learned_log_variance,
    mean_per_example,
    p_distribution,
    q_posterior,
)
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import (
    Gaussian,
    Images,
    Labels,
    PerExample,
    Prediction,
    Scalar,
)


def squared_error(target: Images, estimate: Images) -> PerExample:
    """mean (target - estimate)^2. With eps as the target, L_simple of DDPM, eq. 14."""
    return mean_per_example(jnp.square(target - estimate))


def absolute_error(target: Images, estimate: Images) -> PerExample:
    """mean |target - estimate|."""
    return mean_per_example(jnp.abs(target - estimate))


def kl_divergence(q: Gaussian, p: Gaussian) -> Images:
    """KL(q || p) of two diagonal normals, in nats, per dimension."""
    difference = q.log_variance - p.log_variance
    squared_distance = jnp.square(q.mean - p.mean) * jnp.exp(-p.log_variance)
    return 0.5 * (jnp.exp(difference) - 1 - difference + squared_distance)


def decoder_nll(x0: Images, p: Gaussian) -> Images:
    """-log of the mass of p in the 8-bit bin of x0, in nats, per dimension.

    x0 lies in [-1, 1] on the grid of 256 levels; the outermost bins reach to infinity. DDPM eq. 13.
    """
    inverse_std = jnp.exp(-0.5 * p.log_variance)
    upper = (x0 + 1 / 255 - p.mean) * inverse_std
    lower = (x0 - 1 / 255 - p.mean) * inverse_std
    # Measured from the nearer tail, where differences of the distribution function keep digits.
    inside = jnp.where(x0 > p.mean, ndtr(-lower) - ndtr(-upper), ndtr(upper) - ndtr(lower))
    mass = jnp.where(x0 < -0.999, ndtr(upper), jnp.where(x0 > 0.999, ndtr(-lower), inside))
    return -jnp.log(jnp.maximum(mass, 1e-12))


def vlb(
    step: StepCoefficients, x0: Images, x: Images, prediction: Prediction, *, fixed: str = "small"
) -> PerExample:
    """Computes a term of the variational bound: KL(q(x_next | x, x0) || p(x_next | x)), mean nats.

    In the last step it is the decoder's negative log-likelihood. DDPM eq. 5. fixed: the variance of
    p where none is learned, one of `FIXED_VARIANCES`.
    """
    p = p_distribution(step, prediction, x, fixed=fixed)
    divergence = mean_per_example(kl_divergence(q_posterior(step, x0, x), p))
    return jnp.where(step.last, mean_per_example(decoder_nll(x0, p)), divergence)


def stop_mean(prediction: Prediction) -> Prediction:
    """Returns the same prediction, through which a gradient reaches the variance only."""
    stop = jax.lax.stop_gradient
    return replace(prediction, x0=stop(prediction.x0), eps=stop(prediction.eps))


@dataclass(frozen=True)
class Loss:
    """error_weight * error + bound_weight * bound.

    error: distance of the estimate from its target. It is weighed by the level first.
    error_weight: a number; 0 for a loss without the error.
    bound: (coefficients of the step, x0, x, prediction) -> term of the variational bound, which
        takes a chain; None for a loss without the bound.
    bound_weight: a number; None is the run's vlb_weight.
    bound_trains_mean: True if the bound's gradient reaches the mean, too; False if it trains the
        learned variance alone.

    A loss with neither is `classification_loss`.
    """

    error: Callable[[Images, Images], PerExample] = squared_error
    error_weight: float = 1.0
    bound: Callable[[StepCoefficients, Images, Images, Prediction], PerExample] | None = None
    bound_weight: float | None = None
    bound_trains_mean: bool = False

    @property
    def uses_error(self) -> bool:
        return self.error_weight != 0

    @property
    def needs_bound(self) -> bool:
        """True if it takes a discrete schedule."""
        return self.bound is not None

    @property
    def needs_variance(self) -> bool:
        """True if it takes a network that learns the variance."""
        return self.needs_bound and not self.bound_trains_mean

    @property
    def of_classes(self) -> bool:
        """True if it takes a classifier."""
        return not self.uses_error and not self.needs_bound


def simple() -> Loss:
    """The squared error alone."""
    return Loss()


def bound_alone(*, scale: float = 1.0, variance: str = "small") -> Loss:
    """scale * L_vlb: the term of the variational bound of the example's level.

    scale: T makes the mean over t an estimate of the whole bound, in mean nats ("rescaled").
    variance: where the network learns none, one of `FIXED_VARIANCES`. Raises ValueError for
    another, or a scale that is not positive.
    """
    check_positive(scale=scale)
    if variance not in FIXED_VARIANCES:
        raise ValueError(f"variance={variance} must be {' or '.join(FIXED_VARIANCES)}")
    bound = partial(vlb, fixed=variance)
    return Loss(error_weight=0.0, bound=bound, bound_weight=scale, bound_trains_mean=True)


def hybrid() -> Loss:
    """L_simple + vlb_weight L_vlb, whose second term trains the variance only.

    Improved DDPM, eq. 16 and section 3.1.
    """
    return Loss(bound=vlb)


def original() -> Loss:
    """`hybrid` with the bound of gmongaras/Diffusion_models_from_scratch."""
    return Loss(bound=original_vlb)


def cross_entropy() -> Loss:
    """-log p(label given x), of a classifier of noisy images: `classification_loss`."""
    return Loss(error_weight=0.0)


# The choices of `config.loss.kind`. Options are keyword arguments, and a config section.
LOSSES: dict[str, Callable[..., Loss]] = {
    "simple": simple,
    "vlb": bound_alone,
    "hybrid": hybrid,
    "original": original,
    "cross_entropy": cross_entropy,
}


def log_probability(logits: Float[Array, "batch classes"], labels: Labels) -> PerExample:
    """Returns log p(label given x) of each image; 0 for the null label, which is no class."""
    chosen = jax.nn.one_hot(labels, logits.shape[1])
    return jnp.sum(chosen * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=1)


def classification_loss(
    logits: Float[Array, "batch classes"], labels: Labels
) -> dict[str, PerExample]:
    """Computes the cross-entropy, in nats, as "loss", and "accuracy" (0 or 1)."""
    right = jnp.argmax(logits, axis=1) == labels
    return {"loss": -log_probability(logits, labels), "accuracy": right.astype(jnp.float32)}


def with_uncertainty(loss: PerExample, uncertainty: PerExample) -> PerExample:
    """loss / e^u + u, least where u = log loss: levels of all noise then count the same.

    EDM2 (arXiv:2312.02696), eq. 14 and 21. uncertainty: u, estimated by the network.
    """
    return loss * jnp.exp(-uncertainty) + uncertainty


# The choices of `config.loss.error`: the distance of the estimate from its target.
ERRORS: dict[str, Callable[[Images, Images], PerExample]] = {
    "squared": squared_error,
    "absolute": absolute_error,
}


def diffusion_loss(
    loss: Loss,
    error: PerExample,
    step: StepCoefficients | None,
    x0: Images,
    x: Images,
    prediction: Prediction,
    *,
    vlb_weight: Scalar,
) -> dict[str, PerExample]:
    """Computes the loss and its parts, by name; "loss" is the one to minimize.

    Args:
        error: the weighted error of the target, which is "simple" in the result.
        step: from the level of x; None with a continuous schedule, which has no bound. "vlb" is in
            the result if the loss has a bound, or a variance is learned.
        vlb_weight: of mean nats of one step. Improved DDPM's 0.001 * T * bits is 1.4427 here at
            T = 1000, the original's Lambda is 0.001.
    """
    parts = {"simple": error}
    learned = step is not None and learned_log_variance(step, prediction) is not None
    if step is not None and (loss.needs_bound or learned):
        through = prediction if loss.bound_trains_mean else stop_mean(prediction)
        parts["vlb"] = (loss.bound or vlb)(step, x0, x, through)
    terms = [loss.error_weight * error] if loss.uses_error else []
    if loss.needs_bound:
        weight = vlb_weight if loss.bound_weight is None else loss.bound_weight
        terms.append(weight * parts["vlb"])
    return {"loss": cast(Array, sum(terms)), **parts}
