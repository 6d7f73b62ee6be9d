"""Fields of networks that are small enough to be built by the hundred, by name."""

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
