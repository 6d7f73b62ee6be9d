"""Denoiser in, denoiser out: classifier-free guidance, clipping, a choice of variance.

Wrappers compose; clipping goes outermost, since it is not linear.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.process import noise_from_x0
from diffusion_jax.schedules import Schedule
from diffusion_jax.types import (
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
) -> Denoiser:
    """Classifier-free guidance, both passes in one batch. arXiv:2207.12598, eq. 6.

    guidance_scale: w in noise = (1 + w) conditional - w unconditional. 0 is no guidance; the other
    convention, unconditional + s (conditional - unconditional), has s = 1 + w.
    The variance is the conditional pass's own.
    """

    def guided(x_t: Images, t: Steps) -> Prediction:
        everything = jnp.concatenate([labels, jnp.full_like(labels, null_label)])
        both = denoiser(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]), everything)

        def extrapolate(pair: Float[Array, "two_batches ..."]) -> Float[Array, "batch ..."]:
            conditional, unconditional = jnp.split(pair, 2)
            return conditional + guidance_scale * (conditional - unconditional)

        variance = both.variance_fraction
        return Prediction(
            x0=extrapolate(both.x0),
            noise=extrapolate(both.noise),
            variance_fraction=None if variance is None else jnp.split(variance, 2)[0],
        )

    return guided


def fixed_variance(denoiser: Denoiser) -> Denoiser:
    """The denoiser without its learned variance, which a loss without L_vlb does not train."""
    return lambda x_t, t: replace(denoiser(x_t, t), variance_fraction=None)


def clip_x0(schedule: Schedule, denoiser: Denoiser) -> Denoiser:
    """The predicted x0 clipped to [-1, 1], and the noise that goes with it recomputed."""

    def clipped(x_t: Images, t: Steps) -> Prediction:
        prediction = denoiser(x_t, t)
        x0 = jnp.clip(prediction.x0, -1, 1)
        return replace(prediction, x0=x0, noise=noise_from_x0(schedule, x_t, t, x0))

    return clipped
