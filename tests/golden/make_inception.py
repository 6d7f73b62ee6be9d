"""Rebuild tests/golden/inception.npz: PyTorch's outputs of InceptionV3 with random weights.

An implementation of its own, in NCHW and with PyTorch's operations alone; the weights are those of
`random_state_dict`. Four crops of photographs (see `tfds/`) and two images of 32x48 pixels of noise
are resized as TensorFlow did in 2015 (with torch's grid_sample) and as pytorch-fid does, and go
through the network.

    pip install -r requirements.txt torch
    python tests/golden/make_inception.py
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from diffusion_jax.data import make_source
from diffusion_jax.evaluation.inception_weights import random_state_dict

STATE = {name: torch.from_numpy(array) for name, array in random_state_dict().items()}


def conv(x, name, stride=1, padding=0):
    x = F.conv2d(x, STATE[f"{name}.conv.weight"], stride=stride, padding=padding)
    stored = [STATE[f"{name}.bn.{part}"] for part in ("running_mean", "running_var")]
    affine = [STATE[f"{name}.bn.{part}"] for part in ("weight", "bias")]
    return F.relu(F.batch_norm(x, *stored, *affine, eps=1e-3))


def chain(x, block, *steps):
    for name, padding in steps:
        x = conv(x, f"{block}.{name}", padding=padding)
    return x


def average(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def block_a(x, name):
    return torch.cat(
        [
            chain(x, name, ("branch1x1", 0)),
            chain(x, name, ("branch5x5_1", 0), ("branch5x5_2", 2)),
            chain(x, name, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1), ("branch3x3dbl_3", 1)),
            chain(average(x), name, ("branch_pool", 0)),
        ],
        1,
    )


def block_c(x, name):
    row, column = (0, 3), (3, 0)
    sevens = ("branch7x7_1", 0), ("branch7x7_2", row), ("branch7x7_3", column)
    twice = [(f"branch7x7dbl_{i}", p) for i, p in enumerate((0, column, row, column, row), 1)]
    parts = [chain(x, name, ("branch1x1", 0)), chain(x, name, *sevens), chain(x, name, *twice)]
    return torch.cat([*parts, chain(average(x), name, ("branch_pool", 0))], 1), parts[0]


def block_e(x, name, pooled):
    three = chain(x, name, ("branch3x3_1", 0))
    twice = chain(x, name, ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
    parts = [chain(x, name, ("branch1x1", 0))]
    for part, base in ((three, "branch3x3_2"), (twice, "branch3x3dbl_3")):
        parts += [chain(part, name, (base + "a", (0, 1))), chain(part, name, (base + "b", (1, 0)))]
    return torch.cat([*parts, chain(pooled, name, ("branch_pool", 0))], 1)


def network(x):
    x = conv(x, "Conv2d_1a_3x3", stride=2)
    x = conv(conv(x, "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
    x = F.max_pool2d(x, 3, 2)
    x = F.max_pool2d(conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = block_a(x, name)
    threes = chain(x, "Mixed_6a", ("branch3x3dbl_1", 0), ("branch3x3dbl_2", 1))
    parts = [conv(x, "Mixed_6a.branch3x3", stride=2)]
    parts += [conv(threes, "Mixed_6a.branch3x3dbl_3", stride=2), F.max_pool2d(x, 3, 2)]
    x = torch.cat(parts, 1)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x, first = block_c(x, name)
        if name == "Mixed_6d":
            spatial = first[:, :7]
    sevens = ("branch7x7x3_1", 0), ("branch7x7x3_2", (0, 3)), ("branch7x7x3_3", (3, 0))
    parts = [conv(chain(x, "Mixed_7a", ("branch3x3_1", 0)), "Mixed_7a.branch3x3_2", stride=2)]
    parts += [conv(chain(x, "Mixed_7a", *sevens), "Mixed_7a.branch7x7x3_4", stride=2)]
    x = torch.cat([*parts, F.max_pool2d(x, 3, 2)], 1)
    x = block_e(x, "Mixed_7b", average(x))
    x = block_e(x, "Mixed_7c", F.max_pool2d(x, 3, 1, 1))
    pool = x.mean((2, 3))
    return pool, spatial.permute(0, 2, 3, 1).flatten(1), pool @ STATE["fc.weight"].T


def resize_tensorflow(x):
    """Pixel i from i * side / 299, by way of grid_sample, whose -1 and 1 are the outer pixels."""
    rows, columns = (torch.arange(299, dtype=torch.float64) * side / 299 for side in x.shape[2:])
    places = torch.meshgrid(rows, columns, indexing="ij")[::-1]
    scaled = [2 * p / (side - 1) - 1 for p, side in zip(places, x.shape[:1:-1])]
    grid = torch.stack(scaled, -1).expand(len(x), -1, -1, -1)
    x = F.grid_sample(x.double(), grid, padding_mode="border", align_corners=True)
    return ((x - 128) / 128).float()


def resize_pytorch_fid(x):
    return 2 * F.interpolate(x / 255, size=(299, 299), mode="bilinear", align_corners=False) - 1


@torch.no_grad()
def main() -> None:
    where = {"data_dir": str(HERE / "tfds"), "cache_dir": "/tmp/make_inception"}
    photographs = make_source("tfds:imagenet_resized/64x64", split="train", **where)
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    arrays = {}
    for kind, images in (
        ("photo", photographs.read(np.array([0, 5, 12, 20]))["image"]),
        ("noise", noise),
    ):
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        resized = {"tensorflow": resize_tensorflow(x), "pytorch_fid": resize_pytorch_fid(x)}
        for name, pixels in resized.items():
            arrays[f"{kind}/{name}"] = pixels[:, :, ::13, ::13].permute(0, 2, 3, 1).numpy()
        pool, spatial, logits = network(resized["tensorflow"])
        arrays |= {f"{kind}/pool": pool, f"{kind}/spatial": spatial, f"{kind}/logits": logits}
        arrays[f"{kind}/images"] = images
    np.savez_compressed(HERE / "inception.npz", **{k: np.asarray(v) for k, v in arrays.items()})


if __name__ == "__main__":
    main()
