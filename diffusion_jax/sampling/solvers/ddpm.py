"""DDPM's ancestral sampler, with the variances proposed for it."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.process import learned_log_variance, per_image, posterior_mean
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Denoiser, Images, Level, PerImage, Prediction
from diffusion_jax.sampling.solver import Conventions, Solver, memoryless


def learned(step: StepCoefficients, prediction: Prediction) -> Images | PerImage:
    """Returns the learned standard deviation, or else `small`. Improved DDPM, eq. 15."""
    log_variance = learned_log_variance(step, prediction)
    return small(step, prediction) if log_variance is None else jnp.exp(0.5 * log_variance)


def small(step: StepCoefficients, prediction: Prediction) -> PerImage:
    """sqrt(beta-tilde), the std of q(x_next | x, x0); optimal if all data are one image."""
    return jnp.sqrt(per_image(step.posterior_variance))


def large(step: StepCoefficients, prediction: Prediction) -> PerImage:
    """sqrt(beta), the deviation of q(x | x_next): right for data that are standard normal.

    At the clean image it is the small one of the step before, as in OpenAI's programs.
    """
    variance = jnp.exp(per_image(step.log_posterior_variance))
    is_last = per_image(step.posterior_variance) == 0
    return jnp.sqrt(jnp.where(is_last, variance, per_image(step.beta)))


# The choices of the option `variance`.
VARIANCES = {"learned": learned, "small": small, "large": large}


# The option `classifier_rule`: whether a classifier shifts the mean of a step.
CLASSIFIER_RULES = {"score": False, "mean": True}


def ddpm(*, variance: str = "learned", classifier_rule: str = "score") -> Solver:
    """Returns DDPM's ancestral sampler.

    Args:
        variance: one of `VARIANCES`.
        classifier_rule: "score" for `classifier_guidance`, "mean" for `shifted_mean`.

    Raises ValueError for another value.
    """
    if variance not in VARIANCES:
        raise ValueError(f"Unknown variance {variance!r}; known variances: {', '.join(VARIANCES)}")
    if classifier_rule not in CLASSIFIER_RULES:
        known = ", ".join(CLASSIFIER_RULES)
        raise ValueError(f"Unknown classifier_rule {classifier_rule!r}; known rules: {known}")
    return memoryless(
        partial(ddpm_step, variance=variance),
        Conventions(shift_mean=CLASSIFIER_RULES[classifier_rule]),
        descending,
    )


def ddpm_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: StepCoefficients,
    x: Images,
    noise: Images,
    *,
    variance: str,
) -> Images:
    """x_next = mean of q(x_next | x, x0) + std z, with the predicted x0.

    DDPM (arXiv:2006.11239), algorithm 2; std as in its section 3.2, or learned as in Improved
    DDPM (arXiv:2102.09672), section 3.1. A step to the clean image adds no noise.

    The mean is shifted by std^2 times the prediction's `mean_gradient`, if there is one: Diffusion
    models beat GANs (arXiv:2105.05233), algorithm 1.

    noise: z, standard normal, the shape of x.
    """
    prediction = denoiser(x, now)
    mean = posterior_mean(coefficients, prediction.x0, x)
    std = VARIANCES[variance](coefficients, prediction)
    if prediction.mean_gradient is not None:
        mean = mean + jnp.square(std) * prediction.mean_gradient
    std = jnp.where(per_image(next.sigma) > 0, std, 0.0)
    return mean + std * noise


def descending(sampling_schedule: SamplingSchedule, schedule: Schedule) -> StepCoefficients:
    """Returns the Gaussian transitions. Raises ValueError for a step to more noise.

    Such a step has no posterior.
    """
    if np.any(np.asarray(sampling_schedule.steps.log_snr_step) < 0):
        raise ValueError("The solver ddpm cannot step to more noise; use ddim for inversion")
    return sampling_schedule.steps
