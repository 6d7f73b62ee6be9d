"""Post-hoc EMA: an EMA of any width, reconstructed from the EMAs in a run's checkpoints.

EDM2 (arXiv:2312.02696), section 3.2 and appendix C. A power-function EMA with exponent gamma at
time t weights the parameters of time s by (gamma + 1) s^gamma / t^(gamma + 1), 0 <= s <= t. The
target profile is approximated by the linear combination of saved profiles that is nearest in L2.
"""

import numpy as np
from jaxtyping import ArrayLike, Float, Num

from diffusion_jax.training.ema import gamma_of

Weights = Float[np.ndarray, "count"]


def weights(
    times: Num[np.ndarray, "count"],
    sigma_rels: Float[np.ndarray, "count"],
    time: float | int,
    sigma_rel: float,
) -> Weights:
    """Computes the weights of the saved EMAs in the target EMA; their sum is 1.

    Args:
        times: when each EMA was saved, in steps or images.
        sigma_rels: widths of the saved EMAs.
        time: of the target, in the same unit.
        sigma_rel: width of the target.

    Raises ValueError for a width outside (0, 0.28), and if two EMAs are the same.
    """
    gammas = np.array([gamma_of(width) for width in sigma_rels])
    wanted = gamma_of(sigma_rel)
    times = np.asarray(times, np.float64)
    if len(set(zip(times, gammas))) < len(times):
        raise ValueError("Two EMAs of the same width and time were given")
    among = inner_product(times[:, None], gammas[:, None], times[None], gammas[None])
    found = np.linalg.solve(among, inner_product(times, gammas, time, wanted))
    return found / found.sum()


def misfit(
    times: Num[np.ndarray, "count"],
    sigma_rels: Float[np.ndarray, "count"],
    weights: Weights,
    time: float | int,
    sigma_rel: float,
) -> float:
    """Computes the L2 distance from combination to target profile, relative to the target's norm.

    The arguments are the same as for `weights`, with its result.
    """
    gammas = np.array([gamma_of(width) for width in sigma_rels])
    wanted = gamma_of(sigma_rel)
    times = np.asarray(times, np.float64)
    among = inner_product(times[:, None], gammas[:, None], times[None], gammas[None])
    whole = inner_product(time, wanted, time, wanted)
    crossed = weights @ inner_product(times, gammas, time, wanted)
    square = weights @ among @ weights - 2 * crossed + whole
    return float(np.sqrt(max(square, 0) / whole))


def inner_product(
    t: ArrayLike, gamma: ArrayLike, u: ArrayLike, delta: ArrayLike
) -> Float[np.ndarray, "*shape"] | np.floating:
    """Integrates the product of two profiles, (t, gamma) and (u, delta); they broadcast.

    (gamma + 1) (delta + 1) / ((gamma + delta + 1) max(t, u)) (min / max)^k, where k is the
    exponent of the later profile. arXiv:2312.02696, appendix C.
    """
    t, gamma, u, delta = np.broadcast_arrays(
        *(np.asarray(x, np.float64) for x in (t, gamma, u, delta))
    )
    late, exponent = np.maximum(t, u), np.where(t > u, gamma, delta)
    share = np.minimum(t, u) / late
    return (gamma + 1) * (delta + 1) / ((gamma + delta + 1) * late) * share**exponent
