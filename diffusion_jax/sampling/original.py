"""The sampler of gmongaras/Diffusion_models_from_scratch, as it is."""

import jax.numpy as jnp

from diffusion_jax.diffusion.process import at, learned_log_variance, posterior_variance
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Scalar, Steps


def reference_step(
    schedule: Schedule,
    denoiser: Denoiser,
    x_t: Images,
    t: Steps,
    fresh_noise: Images,
    *,
    eta: Scalar,
) -> Images:
    """x_{t-1} = sqrt(abar_{t-1}) x_0 + sqrt(1 - abar_{t-1} - s beta-tilde_t) noise + sigma z.

    s = eta^2, which the original calls DDIM_scale, and sigma^2 = s times the learned variance. What
    is under the root is at least 0.
    It differs from `ddim_step` in this: the last step, t = 1, adds noise as all others do, and
    eta may exceed 1. To follow the original to the end, give it the schedule that
    `schedules.sampling_schedule` makes with a stride and to_clean_image=False, a denoiser from
    `guidance.classifier_free` with guide_variance=True, and for its `corrected` clipping
    `guidance.clip_x0_alone`.

    fresh_noise: z, standard normal, the shape of x_t. eta: at least 0.
    """
    prediction = denoiser(x_t, t)
    scale = jnp.square(eta)
    variance = posterior_variance(schedule, t)
    left = at(schedule.one_minus_alphas_bar, t - 1) - scale * variance
    if prediction.variance_fraction is not None:
        variance = jnp.exp(learned_log_variance(schedule, t, prediction.variance_fraction))
    return (
        jnp.sqrt(at(schedule.alphas_bar, t - 1)) * prediction.x0
        + jnp.sqrt(jnp.maximum(left, 0.0)) * prediction.noise
        + jnp.sqrt(scale * variance) * fresh_noise
    )
