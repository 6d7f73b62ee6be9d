"""The golden checkpoints of the PyTorch reference, and its tensors' layout."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffusion_jax.importers import original

FOLDER = Path(__file__).parent / "golden" / "original_unet"


def checkpoint(name, time_embedding="head"):
    pkl, json = FOLDER / f"{name}.pkl", FOLDER / f"{name}.json"
    return original.read_checkpoint(pkl, json, time_embedding=time_embedding)


def arrays(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def to_nhwc(images):
    return jnp.asarray(images).transpose(0, 2, 3, 1)


def labels_of(golden, null, num_classes):
    """Classes, with the null label where `null` is 1."""
    labels = np.where(np.broadcast_to(null, golden["c"].shape) == 1, num_classes, golden["c"])
    return jnp.asarray(labels, jnp.int32)
