"""Pickles as EDM and EDM2 write their networks, made without PyTorch and without their code."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage"}
FUNCTIONS = {
    "torch_utils.persistence": ("_reconstruct_persistent_obj",),
    "torch._utils": ("_rebuild_parameter", "_rebuild_tensor_v2"),
    "torch.storage": ("_load_from_bytes",),
}
CLASSES = {
    "torch.nn.modules.container": ("ModuleDict",),
    "dnnlib.util": ("EasyDict",),
    "torch": tuple(STORAGES.values()),
}


@contextmanager
def stand_ins():
    """Modules with the names that the pickles refer to; yields what is in them, by name."""
    found, before = {}, dict(sys.modules)
    for module in (*FUNCTIONS, *CLASSES):
        *parents, _ = module.split(".")
        for depth in range(len(parents)):
            sys.modules.setdefault(".".join(parents[: depth + 1]), types.ModuleType("stand_in"))
        made = sys.modules[module] = types.ModuleType(module)
        for name in FUNCTIONS.get(module, ()):
            exec(f"def {name}(*arguments): pass", made.__dict__)
        for name in CLASSES.get(module, ()):
            parents = (dict,) if name == "EasyDict" else ()
            setattr(made, name, type(name, parents, {"__module__": module}))
        found |= {n: v for n, v in vars(made).items() if not n.startswith("__")}
    for name in (name for names in FUNCTIONS.values() for name in names):
        found[name].__module__ = next(m for m, names in FUNCTIONS.items() if name in names)
    try:
        yield found
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def network(class_name, arguments, tensors, names):
    """A persistent object with these constructor arguments and (nested) tensors by dotted name."""

    def module(prefix, persistent):
        own = {n[len(prefix) :]: a for n, a in tensors.items() if n.startswith(prefix)}
        within = list(dict.fromkeys(n.split(".")[0] for n in own if "." in n))
        leaves = {n: a for n, a in own.items() if "." not in n}
        buffers = [n for n in leaves if n in ("freqs", "phases", "resample_filter")]
        state = {
            "training": False,
            "_parameters": OrderedDict((n, tensor(leaves[n])) for n in leaves if n not in buffers),
            "_buffers": OrderedDict((n, tensor(leaves[n], False)) for n in buffers),
            "_non_persistent_buffers_set": set(),
            "_modules": OrderedDict(
                (n, module(f"{prefix}{n}.", n not in ("enc", "dec"))) for n in within
            ),
            "skip_scale": np.float64(0.5),
        }
        if not persistent:
            plain = names["ModuleDict"]()
            plain.__dict__ = state
            return plain
        about = {"type": "class", "version": 6, "module_src": "raise SystemExit", "state": state}
        about["class_name"] = class_name if not prefix else "Layer"
        if not prefix:
            state |= {"_init_args": (), "_init_kwargs": arguments}
        return Call(names["_reconstruct_persistent_obj"], about)

    def tensor(array, learned=True):
        array = np.ascontiguousarray(array).reshape(array.shape)
        storage = Call(names["_load_from_bytes"], storage_bytes(array, names))
        stride = tuple(s // array.itemsize for s in array.strides)
        rebuilt = Call(
            *(names["_rebuild_tensor_v2"], storage, 0, array.shape, stride, False, OrderedDict())
        )
        return (
            Call(names["_rebuild_parameter"], rebuilt, True, OrderedDict()) if learned else rebuilt
        )

    return module("", True)


def storage_bytes(array, names):
    """Returns a storage in the format of `torch.save` before PyTorch 1.6."""
    file = io.BytesIO()
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    for part in (0x1950A86A20F9469CFC6C, 1001, about):
        pickle.dump(part, file, protocol=2)
    kind = names[STORAGES[str(array.dtype)]]

    class Pickler(pickle.Pickler):
        def persistent_id(self, part):
            return ("storage", kind, "0", "cpu", array.size, None) if part is array else None

    Pickler(file, protocol=2).dump(array)
    pickle.dump(["0"], file, protocol=2)
    file.write(struct.pack("<q", array.size) + array.tobytes())
    return file.getvalue()


def write(path, class_name, arguments, tensors, **more):
    """Writes {"ema": network, ...} as a network snapshot. more: other entries."""
    with stand_ins() as names:
        content = names["EasyDict"](
            ema=network(class_name, arguments, tensors, names), dataset_kwargs={"path": "x"}, **more
        )
        path.write_bytes(pickle.dumps(content, protocol=4))
