"""Denoiser in, denoiser out: classifier-free guidance, clipping, a choice of variance.

Wrappers compose; clipping goes outermost, since it is not linear.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.process import clip_prediction, noise_from_x0
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import (
    Denoiser,
    Images,
    Keys,
    LabelledDenoiser,
    Labels,
    Prediction,
    Scalar,
    Steps,
)


def drop_labels(keys: Keys, labels: Labels, probability: Scalar, null_label: int) -> Labels:
    """Each label with `probability` replaced by the null label, one draw for each example.

    Classifier-Free Diffusion Guidance (arXiv:2207.12598), algorithm 1. null_label is the number of
    classes, so that it is never a real class.
    """
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.where(dropped, null_label, labels)


def with_labels(denoiser: LabelledDenoiser, labels: Labels | None) -> Denoiser:
    """The denoiser that has been told its labels (None for a model without classes)."""
    return lambda x_t, t: denoiser(x_t, t, labels)


def classifier_free(
    denoiser: LabelledDenoiser,
    labels: Labels,
    guidance_scale: Scalar,
    null_label: int,
    *,
    guide_variance: bool = False,
) -> Denoiser:
    """Classifier-free guidance. arXiv:2207.12598, eq. 6.

    The two passes run as one, of twice the size; but each is told that it is a batch of its own, so
    that every row has the place in its batch that it would have in a pass by itself.

    guidance_scale: w in noise = (1 + w) conditional - w unconditional. 0 is no guidance; the other
    convention, unconditional + s (conditional - unconditional), has s = 1 + w.
    guide_variance: extrapolate the variance fraction, too, as the reference does; otherwise the
    variance is the conditional pass's own.
    """

    def guided(x_t: Images, t: Steps) -> Prediction:
        passes = jnp.stack([labels, jnp.full_like(labels, null_label)])
        both = jax.vmap(denoiser, in_axes=(None, None, 0))(x_t, t, passes)

        def extrapolate(pair: Float[Array, "two batch ..."]) -> Float[Array, "batch ..."]:
            conditional, unconditional = pair
            return conditional + guidance_scale * (conditional - unconditional)

        variance = both.variance_fraction
        if variance is not None:
            variance = extrapolate(variance) if guide_variance else variance[0]
        return Prediction(extrapolate(both.x0), extrapolate(both.noise), variance)

    return guided


def fixed_variance(denoiser: Denoiser) -> Denoiser:
    """The denoiser without its learned variance, which a loss without L_vlb does not train."""
    return lambda x_t, t: replace(denoiser(x_t, t), variance_fraction=None)


def clip_x0(schedule: Schedule, denoiser: Denoiser) -> Denoiser:
    """The predicted x0 clipped to [-1, 1], and the noise that goes with it recomputed."""

    def clipped(x_t: Images, t: Steps) -> Prediction:
        prediction = clip_prediction(denoiser(x_t, t))
        return replace(prediction, noise=noise_from_x0(schedule, x_t, t, prediction.x0))

    return clipped


def clip_x0_alone(denoiser: Denoiser) -> Denoiser:
    """The predicted x0 clipped to [-1, 1]; the noise stays, though it no longer goes with it."""

    return lambda x_t, t: clip_prediction(denoiser(x_t, t))
