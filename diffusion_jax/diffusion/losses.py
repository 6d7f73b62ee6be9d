"""Training losses: one number per example, in mean nats per dimension where they are likelihoods.

"Improved DDPM" is arXiv:2102.09672.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from diffusion_jax.diffusion.process import clip_prediction, p_distribution, q_posterior
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Gaussian, Images, PerExample, Prediction, Steps

LOSSES = ("simple", "vlb", "hybrid", "reference")


def mean_per_example(values: Images) -> PerExample:
    """The mean over height, width and channels."""
    return jnp.mean(values, axis=(1, 2, 3))


def simple(noise: Images, prediction: Prediction) -> PerExample:
    """L_simple = mean (noise - predicted noise)^2. DDPM (arXiv:2006.11239) eq. 14."""
    return mean_per_example(jnp.square(noise - prediction.noise))


def kl_divergence(q: Gaussian, p: Gaussian) -> Images:
    """KL(q || p) of two diagonal normals, in nats, per dimension."""
    difference = q.log_variance - p.log_variance
    squared_distance = jnp.square(q.mean - p.mean) * jnp.exp(-p.log_variance)
    return 0.5 * (jnp.exp(difference) - 1 - difference + squared_distance)


def decoder_nll(x0: Images, p: Gaussian) -> Images:
    """-log of the mass that p gives to the 8-bit bin of x0, in nats, per dimension.

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
    schedule: Schedule, x0: Images, x_t: Images, t: Steps, prediction: Prediction
) -> PerExample:
    """One term of the variational bound: KL(q(x_{t-1}|x_t,x_0) || p(x_{t-1}|x_t)), mean nats.

    At t = 1 it is the decoder's negative log-likelihood. DDPM eq. 5.
    """
    p = p_distribution(schedule, prediction, x_t, t)
    divergence = mean_per_example(kl_divergence(q_posterior(schedule, x0, x_t, t), p))
    return jnp.where(t == 1, mean_per_example(decoder_nll(x0, p)), divergence)


def reference_vlb(
    schedule: Schedule, x0: Images, x_t: Images, t: Steps, prediction: Prediction
) -> PerExample:
    """`vlb` as gmongaras/Diffusion_models_from_scratch has it, mean nats.

    log(sd_p / sd_q) + (var_q + (mean_q - mean_p)^2) / (2 var_p) - 1/2, at t = 1 as everywhere, with
    the predicted x0 clipped to [-1, 1] in mean_p.
    """
    p = p_distribution(schedule, clip_prediction(prediction), x_t, t)
    q = q_posterior(schedule, x0, x_t, t)
    log_ratio = 0.5 * (p.log_variance - q.log_variance)
    spread = jnp.exp(q.log_variance) + jnp.square(q.mean - p.mean)
    return mean_per_example(log_ratio + spread / (2 * jnp.exp(p.log_variance)) - 0.5)


def stop_mean(prediction: Prediction) -> Prediction:
    """The same prediction, through which a gradient reaches the variance only."""
    stop = jax.lax.stop_gradient
    return Prediction(stop(prediction.x0), stop(prediction.noise), prediction.variance_fraction)


def diffusion_loss(
    kind: str,
    schedule: Schedule,
    x0: Images,
    x_t: Images,
    t: Steps,
    noise: Images,
    prediction: Prediction,
    *,
    vlb_weight: float,
) -> dict[str, PerExample]:
    """The loss named `kind` and its parts, by name; "loss" is the one to minimise.

    kind: "simple", "vlb", or "hybrid" = L_simple + vlb_weight * L_vlb, whose second term trains the
    variance only (Improved DDPM eq. 16 and section 3.1).
    "reference" is "hybrid" with `reference_vlb` in place of `vlb`.
    vlb_weight counts mean nats of one step: Improved DDPM's 0.001 * T * bits is 1.4427 here at
    T = 1000, the reference system's Lambda is 0.001.
    """
    learned = prediction.variance_fraction is not None
    parts = {"simple": simple(noise, prediction)}
    if kind == "vlb":
        parts["vlb"] = vlb(schedule, x0, x_t, t, prediction)
    elif kind == "reference":
        parts["vlb"] = reference_vlb(schedule, x0, x_t, t, stop_mean(prediction))
    elif kind == "hybrid" or learned:
        parts["vlb"] = vlb(schedule, x0, x_t, t, stop_mean(prediction))
    if kind in ("hybrid", "reference"):
        return {"loss": parts["simple"] + vlb_weight * parts["vlb"], **parts}
    return {"loss": parts[kind], **parts}
