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
    """Returns the prediction with gradients through the learned variance only."""
    stop = jax.lax.stop_gradient
    return replace(prediction, x0=stop(prediction.x0), eps=stop(prediction.eps))


@dataclass(frozen=True)
class Loss:
    """error_weight * error + vlb_weight * vlb; with neither term, `classification_loss`.

    Args:
        error: (target, estimate) -> distance, (batch,), which `config.loss.weight` multiplies.
        error_weight: 0 for a loss without this term.
        vlb: (coefficients of the step, x0, x, prediction) -> term of the variational bound,
            (batch,), in mean nats. It needs a discrete schedule. None for a loss without it.
        vlb_weight: None for `config.loss.vlb_weight`.
        vlb_trains_mean: False if the gradient of this term reaches the learned variance alone.
    """

    error: Callable[[Images, Images], PerExample] = squared_error
    error_weight: float = 1.0
    vlb: Callable[[StepCoefficients, Images, Images, Prediction], PerExample] | None = None
    vlb_weight: float | None = None
    vlb_trains_mean: bool = False

    @property
    def uses_error(self) -> bool:
        """True if the loss has the weighted error of the target."""
        return self.error_weight != 0

    @property
    def needs_vlb(self) -> bool:
        """True if the loss has a term of the variational bound, hence needs a discrete schedule."""
        return self.vlb is not None

    @property
    def needs_variance(self) -> bool:
        """True if the loss needs a network that learns the variance."""
        return self.needs_vlb and not self.vlb_trains_mean

    @property
    def is_classification(self) -> bool:
        """True if the loss trains a classifier."""
        return not self.uses_error and not self.needs_vlb


def simple() -> Loss:
    """Returns the loss with the error of the target alone."""
    return Loss()


def vlb_only(*, scale: float = 1.0, variance: str = "small") -> Loss:
    """scale * L_vlb: the term of the variational bound at the example's timestep.

    Args:
        scale: with T, the mean over t estimates the whole bound, in mean nats, as Improved DDPM's
            "rescaled" loss.
        variance: variance of p if the network learns none, one of `FIXED_VARIANCES`.

    Raises:
        ValueError: another variance, or a scale that is not positive.
    """
    check_positive(scale=scale)
    if variance not in FIXED_VARIANCES:
        raise ValueError(f"variance={variance} must be {' or '.join(FIXED_VARIANCES)}")
    term = partial(vlb, fixed=variance)
    return Loss(error_weight=0.0, vlb=term, vlb_weight=scale, vlb_trains_mean=True)


def hybrid() -> Loss:
    """L_simple + vlb_weight L_vlb, whose second term trains the variance only.

    Improved DDPM, eq. 16 and section 3.1.
    """
    return Loss(vlb=vlb)


def original() -> Loss:
    """Returns `hybrid` with the bound of gmongaras/Diffusion_models_from_scratch."""
    return Loss(vlb=original_vlb)


def cross_entropy() -> Loss:
    """Returns the loss of a classifier of noisy images; see `classification_loss`."""
    return Loss(error_weight=0.0)


# The choices of `config.loss.kind`. Options are keyword arguments, and a config section.
LOSSES: dict[str, Callable[..., Loss]] = {
    "simple": simple,
    "vlb": vlb_only,
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
    """loss / e^u + u. EDM2 (arXiv:2312.02696), eq. 14 and 21.

    It is least at u = log loss, which equalizes the losses of all levels. uncertainty: u, estimated
    by the network.
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
    """Computes {"loss": to minimize, "simple": error, "vlb": bound}, (batch,) each.

    "vlb" is computed if the loss has it, or for the metrics if a variance is learned.

    Args:
        error: the weighted error of the target.
        step: the step from the level of x; None with a continuous schedule, which has no bound.
        vlb_weight: weight of the bound's term in mean nats. Improved DDPM's 0.001 * T * bits is
            1.4427 here at T = 1000, the original's Lambda is 0.001.
    """
    parts = {"simple": error}
    learned = step is not None and learned_log_variance(step, prediction) is not None
    if step is not None and (loss.needs_vlb or learned):
        through = prediction if loss.vlb_trains_mean else stop_mean(prediction)
        parts["vlb"] = (loss.vlb or vlb)(step, x0, x, through)
    terms = [loss.error_weight * error] if loss.uses_error else []
    if loss.needs_vlb:
        weight = vlb_weight if loss.vlb_weight is None else loss.vlb_weight
        terms.append(weight * parts["vlb"])
    return {"loss": cast(Array, sum(terms)), **parts}
