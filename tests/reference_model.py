"""Reads the golden weights of the PyTorch reference into the parameter tree of our U-Net."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

FLOAT = object()


class _Reader(pickle.Unpickler):
    """Knows the three names that a PyTorch state dict of float32 tensors contains, and no other."""

    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self.storage = lambda key: archive.read(f"{root}/data/{key}")

    def find_class(self, module: str, name: str):
        return {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch", "FloatStorage"): FLOAT,
        }[module, name]

    def persistent_load(self, pid):
        return np.frombuffer(self.storage(pid[2]), "<f4")

    @staticmethod
    def tensor(storage, offset, size, stride, *_):
        return storage[offset : offset + int(np.prod(size))].reshape(size)


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].split("/")[0]
        return dict(_Reader(archive, root).load())


# In each block: the reference's name -> ours.
NAMES = {
    "res": {
        "t_mlp.1": "time",
        "c_mlp.1": "label",
        "block1.proj": "conv_0",
        "block1.norm": "norm_0/norm",
        "block2.proj": "conv_1",
        "block2.norm": "norm_1/norm",
        "res_conv": "shortcut",
    },
    "conv": {
        "block.0": "depthwise",
        "block.1": "norm/norm",
        "block.2": "expand",
        "block.4": "project",
        "res": "shortcut",
        "timeProj": "time",
        "clsProj": "label",
    },
    "clsAtn": {
        "Q_emb": "query",
        "K_emb": "key",
        "out_emb.0": "out",
        "out_emb.1": "norm_out/norm",
        "LN": "norm_in/norm",
    },
    "chnAtn": {"conv": ""},
    "atn": {"KQV_weight": "kqv", "O_conv": "out", "LN": "norm/norm"},
}


def to_params(state: dict[str, np.ndarray], blocks: list[str], levels: int) -> dict:
    """The reference's state dict as our tree of parameters."""
    names = {
        "unet.inConv": "stem",
        "unet.out": "head",
        "unet.t_emb.0": "time_mlp/hidden",
        "unet.t_emb.2": "time_mlp/out",
        "c_emb": "label_embedding",
        "unet.intermediate.1.conv": "middle_1",
    }

    def level(theirs: str, ours: str) -> None:
        for index, block in enumerate(blocks):
            for source, target in NAMES[block].items():
                old = f"{theirs}.block.{index}.{source}"
                names[old] = f"{ours}/{index}_{block}/{target}".rstrip("/")

    for i in range(levels):
        level(f"unet.downBlocks.{2 * i}", f"down_{i}")
        names[f"unet.downBlocks.{2 * i + 1}"] = f"down_{i}_halve"
        names[f"unet.upBlocks.{2 * (levels - 1 - i)}"] = f"up_{i}_double"
        level(f"unet.upBlocks.{2 * (levels - 1 - i) + 1}", f"up_{i}")
    level("unet.intermediate.0", "middle_0")
    level("unet.intermediate.2", "middle_2")
    level(f"unet.upBlocks.{2 * levels}", "tail_0")
    level(f"unet.upBlocks.{2 * levels + 1}", "tail_1")
    for head, ours in (("out_mean", "noise_head"), ("out_var", "variance_head")):
        for source, target in NAMES["conv"].items():
            names[f"{head}.{source}"] = f"{ours}/{target}"

    params: dict = {}
    for key, value in state.items():
        module, kind = key.rsplit(".", 1)
        target = names[module]
        leaf, value = _leaf(target, kind, value)
        node = params
        for part in target.split("/"):
            node = node.setdefault(part, {})
        node[leaf] = value
    return params


def _leaf(target: str, kind: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    if kind == "bias":
        return "bias", value
    if "norm" in target:
        return "scale", value
    if target == "label_embedding":
        return "table", value.T
    if value.ndim == 2:
        return "kernel", value.T
    if target.endswith("_double"):
        return "kernel", value[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    if target.endswith("chnAtn") or target == "middle_1":
        return "kernel", value.reshape(-1, 1, 1)
    return "kernel", value.transpose(2, 3, 1, 0)
