"""Rebuild tests/golden/adm.npz: outputs of OpenAI's U-Nets with weights made from their names.

    git clone https://github.com/openai/guided-diffusion (MIT, (c) 2021 OpenAI; commit 22e0df8)
    git clone https://github.com/edogariu/nice-diffusion (commit a9d3a53)
    pip install numpy torch matplotlib tqdm
    python tests/golden/make_adm.py guided-diffusion nice-diffusion

Weights are `weights_of(name, shape)`, so that only names, shapes and outputs are stored: for each
network of NETWORKS its state dict as JSON ([name, shape] in order), and the output (NHWC) for `x`,
`t`, and where it has them `labels` and `small` (images to enlarge). "nice" is nice-diffusion's
U-Net for NICE_LABELS, of which 0 is the null class.
"""

import json
import pathlib
import sys
import zlib

import numpy as np

FILE = pathlib.Path(__file__).resolve().parent / "adm.npz"
SIDE = 16
SHARED = {"image_size": SIDE, "in_channels": 3, "model_channels": 32}
BLOCKS = {"use_scale_shift_norm": True, "resblock_updown": True}
# Name -> (class, arguments of the constructor).
NETWORKS = {
    "new": (
        "UNetModel",
        {"out_channels": 6, "num_res_blocks": 1, "attention_resolutions": (2,)}
        | {"channel_mult": (1, 2), "num_head_channels": 16, "use_new_attention_order": True}
        | {"num_classes": 5, **BLOCKS},
    ),
    "legacy": (
        "UNetModel",
        {"out_channels": 3, "num_res_blocks": 2, "attention_resolutions": (1, 2)}
        | {"channel_mult": (1, 1), "num_heads": 4, **BLOCKS},
    ),
    "improved": (
        "UNetModel",
        {"out_channels": 6, "num_res_blocks": 1, "attention_resolutions": (4,)}
        | {"channel_mult": (1, 2, 2), "num_heads": 2},
    ),
    "super": (
        "SuperResModel",
        {"out_channels": 6, "num_res_blocks": 1, "attention_resolutions": (2,)}
        | {"channel_mult": (1, 1), "num_head_channels": 32, "num_classes": 5, **BLOCKS},
    ),
}

CLASSIFIERS = {
    "attention": {"pool": "attention", "attention_resolutions": (2,), "channel_mult": (1, 2)},
    "adaptive": {"pool": "adaptive", "attention_resolutions": (2,), "channel_mult": (1, 1)},
}

NICE = {"resolution": SIDE, "in_channels": 3, "out_channels": 6, "model_channels": 32}
NICE |= {"num_res_blocks": 1, "attention_resolutions": (8,), "channel_mult": (1, 2)}
NICE |= {"num_head_channels": 16, "num_classes": 6, "resblock_updown": True}
NICE |= {"use_adaptive_gn": True}
NICE_LABELS = (1, 5, 0)


def weights_of(name, shape):
    """Weights that keep activations in range, from a generator that the name seeds."""
    numbers = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        numbers /= np.sqrt(np.prod(shape[1:]))
    elif name.endswith("weight"):
        numbers = 1 + 0.1 * numbers
    else:
        numbers *= 0.1
    return numbers.astype(np.float32)


def main():
    import torch

    sys.path[:0] = sys.argv[1:3]
    from guided_diffusion import unet
    from nicediffusion.model import DiffusionModel

    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, SIDE, SIDE, 3)).astype(np.float32)
    small = generator.standard_normal((3, SIDE // 2, SIDE // 2, 3)).astype(np.float32)
    arrays = {"x": x, "small": small, "t": np.array([0, 7, 999]), "labels": np.array([0, 4, 2])}

    def nchw(images):
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    for name, (kind, arguments) in NETWORKS.items():
        net = getattr(unet, kind)(**SHARED, **arguments).eval()
        shapes = [(key, list(tensor.shape)) for key, tensor in net.state_dict().items()]
        net.load_state_dict({key: torch.from_numpy(weights_of(key, s)) for key, s in shapes})
        inputs = {"y": torch.from_numpy(arrays["labels"])} if "num_classes" in arguments else {}
        if kind == "SuperResModel":
            inputs["low_res"] = nchw(small)
        with torch.no_grad():
            y = net(nchw(x), torch.from_numpy(arrays["t"]), **inputs)
        arrays[f"{name}_shapes"] = np.array(json.dumps(shapes))
        arrays[f"{name}_y"] = y.permute(0, 2, 3, 1).numpy()
    for name, arguments in CLASSIFIERS.items():
        options = {"out_channels": 5, "num_res_blocks": 1, "num_head_channels": 16, **BLOCKS}
        net = unet.EncoderUNetModel(**SHARED, **options, **arguments).eval()
        shapes = [(key, list(tensor.shape)) for key, tensor in net.state_dict().items()]
        net.load_state_dict({key: torch.from_numpy(weights_of(key, s)) for key, s in shapes})
        with torch.no_grad():
            y = net(nchw(x), torch.from_numpy(arrays["t"]))
        arrays[f"{name}_shapes"] = np.array(json.dumps(shapes))
        arrays[f"{name}_y"] = y.numpy()
    net = DiffusionModel(**NICE).eval()
    shapes = [(key, list(tensor.shape)) for key, tensor in net.state_dict().items()]
    net.load_state_dict({key: torch.from_numpy(weights_of(key, s)) for key, s in shapes})
    with torch.no_grad():
        y = net(nchw(x), torch.from_numpy(arrays["t"]), torch.tensor(NICE_LABELS))
    arrays["nice_shapes"] = np.array(json.dumps(shapes))
    arrays["nice_y"] = y.permute(0, 2, 3, 1).numpy()
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
