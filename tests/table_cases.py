"""Test cases of the entries of the library's tables, by name.

`tests/test_tables.py` names the entries that have none.
"""

import numpy as np

# Solvers that add no noise with their default options, and their orders.
ORDERS = {"ddim": 1, "heun": 2, "dpmpp_2m": 2, "euler": 1, "dpmpp_2s": 2}
ORDERS |= {"dpmpp_3m": 2, "unipc": 2, "pndm": 2}

# Solvers that add noise and have no state: (solver, options, order), by any name.
STOCHASTIC = {
    "euler_ancestral": ("euler_ancestral", {}, 1),
    "ddpm small": ("ddpm", {"variance": "small"}, 1),
    "ddpm large": ("ddpm", {"variance": "large"}, 1),
    "euler churned": ("euler", {"s_churn": 10.0}, 1),
    "heun churned": ("heun", {"s_churn": 10.0}, 2),
    "dpmpp_2s ancestral": ("dpmpp_2s", {"eta": 1.0}, 2),
}
# Further ones: with a state, and DDIM's own way to add noise.
STOCHASTIC_WITH_STATE = {
    "ddim": ("ddim", {"eta": 1.0}, 1),
    "dpmpp_sde_2m": ("dpmpp_sde_2m", {}, 2),
}

# The parts of the conditioning on which a block's output depends.
CONDITIONED_ON = {
    "res": ("time", "label"),
    "conv": ("time", "label"),
    "clsAtn": ("label",),
    "atn": (),
    "chnAtn": (),
}

# Fields of networks that are small enough to be built by the hundred.
SMALL_NETWORKS = {
    "unet": {"width": 8, "levels": 2, "time_dim": 8, "label_dim": 8, "num_heads": 2, "window": 2},
    "dit": {"patch_size": 4, "width": 8, "depth": 1, "num_heads": 2},
    "adm": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "num_heads": 2},
    "attention_unet": {"width": 4, "time_dim": 8},
    "plain_unet": {"width": 8, "levels": 2},
    "edm2": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "head_channels": 4},
    "noisy_classifier": {
        "width": 8,
        "multipliers": (1, 2),
        "blocks": 1,
        "attention": (4,),
        "head_channels": 4,
    },
    "song": {"width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,)},
}

# Schedules of a chain of steps, and schedules of continuous time.
DISCRETE, CONTINUOUS = ("linear", "cosine"), ("continuous_cosine", "flow", "edm")

# Targets of the network, as the papers write them, for x = a x0 + s eps.
TARGETS = {
    "eps": lambda a, s, x0, eps: eps,
    "x0": lambda a, s, x0, eps: x0,
    "v": lambda a, s, x0, eps: a * eps - s * x0,
    "velocity": lambda a, s, x0, eps: eps - x0,
    # (x0 - c_skip (x0 + sigma eps)) / c_out with sigma_data = 0.5.
    "edm": lambda a, s, x0, eps: (
        (x0 - 0.25 / ((s / a) ** 2 + 0.25) * (x0 + s / a * eps))
        / (0.5 * s / a / np.sqrt((s / a) ** 2 + 0.25))
    ),
}

# Weights of the error of x0 with default options, as the papers write them, at SNR = (a / s)^2.
OF_X0 = {
    "min_snr": lambda snr: np.minimum(snr, 5),
    "sigmoid": lambda snr: snr / (1 + np.exp(np.log(snr) - 2)),
    "edm": lambda snr: (1 / snr + 0.25) / (0.25 / snr),
}

# Datasets that need no files: (split, number of images, their shape, number of classes).
DATASETS = {"digits": ("all", 1797, (8, 8, 1), 10)}

# Metrics of two sets of normal vectors: (version, numbers).
PINNED = {
    "FID": (1, 0.3344548840),
    "IS": (2, 1.5106505865, 0.0209277598),
    "KID": (1, 0.0091992792, 0.0012724105),
    "precision, recall": (1, 0.8991666667, 0.6372727273),
}
