"""Guidance: functions from denoisers to denoisers.

Wrappers compose; thresholding goes outermost, since it is not linear. `guide` puts them together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.diffusion.checks import check_positive, check_range
from diffusion_jax.diffusion.classifier_guidance import (
    LogProbability,
    classifier_guidance,
    shifted_mean,
)
from diffusion_jax.diffusion.process import clip_x0, clip_x0_only, dynamic_threshold, per_image
from diffusion_jax.diffusion.types import (
    Condition,
    ConditionalDenoiser,
    Denoiser,
    Images,
    Keys,
    Labels,
    Leaf,
    Level,
    PerImage,
    Prediction,
    Scalar,
)

LARGEST_SCALE = 1000


def drop_labels(keys: Keys, labels: Labels, probability: Scalar, null_label: int) -> Labels:
    """Replaces labels by the null label, each with `probability` and its own key.

    Classifier-Free Diffusion Guidance (arXiv:2207.12598), algorithm 1. null_label is the number of
    classes, so that it is never a real class.
    """
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)
    return jnp.where(dropped, null_label, labels)


def with_condition(denoiser: ConditionalDenoiser, condition: Condition) -> Denoiser:
    """Returns the denoiser with this condition (None for a model without one)."""
    return lambda x, level: denoiser(x, level, condition)


def extrapolate(
    good: Prediction, bad: Prediction, guidance_scale: Scalar, *, guide_variance: bool = False
) -> Prediction:
    """Returns good + w (good - bad), for x0 and eps alike, with the variance of good.

    guide_variance: extrapolate the learned variance, too.
    """

    def away(good: Leaf, bad: Leaf) -> Leaf:
        return good + guidance_scale * (good - bad)

    if guide_variance:
        return jax.tree.map(away, good, bad)
    return replace(good, x0=away(good.x0, bad.x0), eps=away(good.eps, bad.eps))


def classifier_free(
    denoiser: ConditionalDenoiser,
    condition: Condition,
    null: Condition,
    guidance_scale: Scalar,
    *,
    guide_variance: bool = False,
    rescale: Scalar | None = None,
) -> Denoiser:
    """Returns the denoiser with classifier-free guidance. arXiv:2207.12598, eq. 6.

    Both passes are one call of the network, vmapped over the two conditions, so that an image has
    the same row in both.

    Args:
        null: the null condition, in the shape of `condition`.
        guidance_scale: w in eps = (1 + w) conditional - w unconditional; 0 is no guidance. In the
            other convention, unconditional + s (conditional - unconditional), s = 1 + w.
        guide_variance: True extrapolates the learned variance, too, as the original does; False
            takes the conditional one.
        rescale: phi of `rescale_std`, or None.
    """

    passes = jax.tree.map(lambda *rows: jnp.stack(rows), condition, null)

    def guided(x: Images, level: Level) -> Prediction:
        both = jax.vmap(denoiser, in_axes=(None, None, 0))(x, level, passes)
        conditional, unconditional = (jax.tree.map(lambda pair: pair[i], both) for i in range(2))  # noqa: B023
        prediction = extrapolate(
            conditional, unconditional, guidance_scale, guide_variance=guide_variance
        )
        return (
            prediction if rescale is None else rescale_std(prediction, conditional, level, rescale)
        )

    return guided


def autoguidance(
    denoiser: Denoiser, weak: Denoiser, guidance_scale: Scalar, *, rescale: Scalar | None = None
) -> Denoiser:
    """Returns the denoiser D + w (D - D_weak), guided by a weaker model. arXiv:2406.02507, eq. 3.

    guidance_scale: w; their own scale is 1 + w. rescale: phi of `rescale_std`, or None.
    """

    def guided(x: Images, level: Level) -> Prediction:
        good = denoiser(x, level)
        prediction = extrapolate(good, weak(x, level), guidance_scale)
        return prediction if rescale is None else rescale_std(prediction, good, level, rescale)

    return guided


def in_interval(interval: tuple[Scalar, Scalar], guided: Denoiser, unguided: Denoiser) -> Denoiser:
    """Returns the denoiser `guided` where low < sigma / alpha <= high, `unguided` elsewhere.

    Guidance in a limited interval (arXiv:2404.07724), eq. 5. Only the chosen one is computed, so
    the level must be a scalar. interval: (low, high).
    """
    low, high = interval

    def chosen(x: Images, level: Level) -> Prediction:
        sigma = jnp.asarray(level.sigma, jnp.float32) / jnp.asarray(level.alpha, jnp.float32)
        return jax.lax.cond((low < sigma) & (sigma <= high), guided, unguided, x, level)

    return chosen


def rescale_std(
    guided: Prediction, conditional: Prediction, level: Level, phi: Scalar
) -> Prediction:
    """Rescales the guided prediction to the standard deviation of the conditional one.

    v_rescaled = v_guided std(v_conditional) / std(v_guided), for each image, and the result is
    phi v_rescaled + (1 - phi) v_guided. arXiv:2305.08891, eq. 15 and 16, with
    v = (alpha eps - sigma x0) / sqrt(alpha^2 + sigma^2). phi: in [0, 1].
    """
    a, s = per_image(level.alpha), per_image(level.sigma)
    size = jnp.sqrt(a**2 + s**2)

    def v_of(prediction: Prediction) -> Images:
        return (a * prediction.eps - s * prediction.x0) / size

    def std(images: Images) -> PerImage:
        return jnp.std(images, axis=(1, 2, 3), keepdims=True)

    v = v_of(guided)
    # The maximum keeps a constant image unchanged.
    factor = std(v_of(conditional)) / jnp.maximum(std(v), 1e-12)
    change = phi * (factor - 1) * v / size
    return replace(guided, x0=guided.x0 - s * change, eps=guided.eps + a * change)


def drop_learned_variance(denoiser: Denoiser) -> Denoiser:
    """Removes the learned variance, which a loss without L_vlb does not train."""
    return lambda x, level: replace(denoiser(x, level), variance_fraction=None, log_variance=None)


def at_own_levels(
    denoiser: ConditionalDenoiser, level_of: Callable[[Leaf], Level]
) -> ConditionalDenoiser:
    """Returns a denoiser that takes levels of any schedule, for a model of another schedule.

    x is rescaled to the model's own level with the same sigma / alpha; x0 and eps are the same at
    both. level_of: sigma / alpha -> level of the model's schedule.
    """

    def at_own_level(x: Images, level: Level, condition: Condition) -> Prediction:
        noise = jnp.asarray(level.sigma, jnp.float32)
        own = level_of(noise / jnp.asarray(level.alpha, jnp.float32))
        return denoiser(x * (own.sigma / noise), own, condition)

    return at_own_level


@dataclass(frozen=True)
class Guidance:
    """Settings of guidance and clipping. None is off.

    Args:
        scale: w of `classifier_free` or `autoguidance`, at least -1, which is the null class or the
            weaker model alone. None saves the second pass of the network.
        interval: where to guide, see `in_interval`; None is everywhere.
        rescale: phi of `rescale_std`.
        clip: True clips the predicted x0 to [-1, 1].
        dynamic_threshold: quantile of `dynamic_threshold`, in place of clipping.
        classifier_scale: of `classifier_guidance`, on top of the others.
        learned_variance: True uses the learned variance of the network.
        shift_mean: True for `shifted_mean` in place of `classifier_guidance`.
        clip_x0_only, guide_variance: as in the original, see `clip_x0_only` and `classifier_free`.

    Raises:
        ValueError: in the names of `config.sampling`, for a number out of its range.
    """

    scale: Any = None
    interval: tuple[Any, Any] | None = None
    rescale: Any = None
    clip: bool = True
    dynamic_threshold: Any = None
    classifier_scale: Any = None
    learned_variance: bool = True
    shift_mean: bool = False
    clip_x0_only: bool = False
    guide_variance: bool = False

    def __post_init__(self) -> None:
        check_range("guidance", self.scale, -1, LARGEST_SCALE)
        check_range("classifier_scale", self.classifier_scale, 0, LARGEST_SCALE)
        check_range("guidance_rescale", self.rescale, 0, 1)
        check_positive(dynamic_threshold=self.dynamic_threshold)
        check_range("dynamic_threshold", self.dynamic_threshold, 0, 1)
        if self.interval is not None:
            low, high = self.interval
            check_range("guidance_low", low, 0)
            if isinstance(low, int | float) and not low < high:  # traced under jit
                raise ValueError(f"guidance_low={low} must be less than guidance_high={high}")


def guide(
    settings: Guidance,
    denoiser: ConditionalDenoiser,
    condition: Condition,
    null: Condition = None,
    weak: ConditionalDenoiser | None = None,
    log_probability: LogProbability | None = None,
) -> Denoiser:
    """Returns the guided and clipped denoiser that a solver calls.

    Args:
        null: null condition for classifier-free guidance; None if the model has none.
        weak: weaker model for autoguidance, which takes the place of the null condition.
        log_probability: log p(y | x) of the wanted class, by a classifier of noisy images.
    """
    unguided = with_condition(denoiser, condition)
    if settings.scale is None or (weak is None and null is None):
        guided = unguided
    else:
        if weak is not None:
            guided = autoguidance(
                unguided, with_condition(weak, condition), settings.scale, rescale=settings.rescale
            )
        else:
            guided = classifier_free(
                denoiser,
                condition,
                null,
                settings.scale,
                guide_variance=settings.guide_variance,
                rescale=settings.rescale,
            )
        if settings.interval is not None:
            guided = in_interval(settings.interval, guided, unguided)
    if settings.classifier_scale is not None and log_probability is not None:
        by_classifier = shifted_mean if settings.shift_mean else classifier_guidance
        guided = by_classifier(guided, log_probability, settings.classifier_scale)
    if not settings.learned_variance:
        guided = drop_learned_variance(guided)
    if settings.dynamic_threshold is not None:
        return dynamic_threshold(guided, settings.dynamic_threshold)
    if settings.clip:
        return clip_x0_only(guided) if settings.clip_x0_only else clip_x0(guided)
    return guided
