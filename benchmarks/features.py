"""Speed of InceptionV3 features, and of the Frechet distance of two statistics.

python -m benchmarks.features [--images 128] [--batch_size 32] [--torch]

With --torch, PyTorch runs the same network with the same weights in the same process (pip install
torch). The weights are random.
"""

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import flags

from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.evaluation.moments import frechet_distance
from scripts.cli import app

_IMAGES = flags.DEFINE_integer("images", 128, "Images of 64x64 pixels.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images at a time.", 1)
_TORCH = flags.DEFINE_bool("torch", False, "Measure PyTorch, too.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to, too.")


def main() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (_IMAGES.value, 64, 64, 3), np.uint8)
    extract = make_extractor("random", batch_size=_BATCH_SIZE.value)
    print(f"{jax.default_backend()}, {jax.device_count()} devices")
    speed = show("features", extract, images)
    if _JSON.value:
        device = jax.local_devices()[0].device_kind
        figures = {"benchmark": "features", "device": device, "jax": jax.__version__}
        figures |= {"batch": _BATCH_SIZE.value, "images_per_second": speed}
        Path(_JSON.value).write_text(json.dumps(figures, indent=2) + "\n")
    if _TORCH.value:
        show("PyTorch", in_torch(), images)
    roots = generator.standard_normal((2, 2048, 4096))
    covariances = [root @ root.T / 4096 for root in roots]
    start = time.perf_counter()
    frechet_distance(np.zeros(2048), covariances[0], np.ones(2048), covariances[1])
    print(f"{'distance, 2048':>16}  {time.perf_counter() - start:>8.1f} s")


def show(name: str, extract: Callable, images: np.ndarray) -> float:
    """Prints and returns the images per second."""
    extract(images[: _BATCH_SIZE.value])  # compiles
    start = time.perf_counter()
    extract(images)
    speed = len(images) / (time.perf_counter() - start)
    print(f"{name:>16}  {speed:>8.1f} images/s", flush=True)
    return speed


def in_torch() -> Callable:
    import torch

    path = app.ROOT / "tests" / "golden" / "make_inception.py"
    spec = importlib.util.spec_from_file_location("make_inception", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def extract(images: np.ndarray) -> None:
        with torch.no_grad():
            for part in np.array_split(images, max(1, len(images) // _BATCH_SIZE.value)):
                x = torch.from_numpy(part).permute(0, 3, 1, 2).float()
                module.network(module.resize_tensorflow(x))

    return extract


if __name__ == "__main__":
    app.run(main)
