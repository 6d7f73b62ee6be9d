"""Image-independent operations that the compiled sampling loop repeats in every step.

python -m benchmarks.loop_body --config configs/res_res.py --batch 8 --dtype bfloat16

The operations are those of the optimized program, after the compiler has moved code into or out of
the loop.
"""

import re
from collections import Counter
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from benchmarks.hlo import Instruction, parse
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.training.state import init_params
from scripts.cli import app

# Operations that only name, move or repeat numbers.
FREE = (
    *("parameter", "get-tuple-element", "tuple", "constant", "iota", "copy", "bitcast"),
    *("bitcast-convert", "reshape", "transpose", "broadcast", "slice", "dynamic-slice", "pad"),
)

# Inputs that a value, or each element of a tuple, depends on.
Origins = frozenset | list


def sampling_program(config: ConfigDict, batch_size: int, without_passes: str = "") -> str:
    """Returns one device's optimized sampling program of a config; needs no parameters.

    batch_size: global. without_passes: comma-separated names of compiler passes to leave out.
    """
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=batch_size)
    static, traced = sampler._split_arguments(
        sampler.guidance, sampler.options, sampler.sampling_schedule, 0
    )
    labels = jax.ShapeDtypeStruct((batch_size // jax.device_count(),), np.int32)
    model = make_model(config)
    params = jax.eval_shape(lambda: init_params(model, 0, config.data.resolution))
    batch = {"condition": labels, "inputs": {}, "index": labels}
    lowered = jax.jit(partial(sampler._sample, static)).lower((params, None), traced, batch)
    options = {"xla_disable_hlo_passes": without_passes} if without_passes else None
    return lowered.compile(options).as_text()


def repeated(program: str) -> list[Instruction]:
    """Returns operations of the longest loop's body that depend on parameters or labels alone.

    They may depend on a level, too, but not on an image. Single numbers, random bits and data
    movement are left out.
    """
    computations = parse(program)
    loops = [line for lines in computations.values() for line in lines if line.opcode == "while"]
    bodies = [computations[re.search(r"body=%([\w.\-]+)", loop.rest)[1]] for loop in loops]
    body = max(bodies, key=len)
    by_name = {line.name: line for line in body}

    def origin(index: int, name: str) -> frozenset:
        """Returns the origin of the carried tuple's element with this index."""
        while by_name[name].opcode in ("copy", "bitcast"):
            name = by_name[name].operands[0]
        end = by_name[name]
        if end.opcode == "get-tuple-element" and end.index == index:
            return frozenset(["keys" if end.shape.startswith("u32") else "fixed"])
        return frozenset(["step" if end.shape.startswith("s32[]") else "image"])

    (root,) = (line for line in body if line.is_root)
    found: list[Instruction] = []
    carried = [origin(*element) for element in enumerate(root.operands)]
    _follow(computations, body, [carried], found)
    return found


def _follow(
    computations: dict[str, list[Instruction]],
    lines: list[Instruction],
    given: list[Origins],
    found: list[Instruction],
) -> Origins:
    """Returns the origins of a computation's result; appends repeated operations to `found`."""
    origins: dict[str, Origins] = {}
    for line in lines:
        operands = [origins[name] for name in line.operands]
        together = _all(operands)
        origins[line.name] = together
        if line.opcode == "parameter":
            origins[line.name] = given[line.index]
        elif line.opcode == "get-tuple-element" and isinstance(operands[0], list):
            origins[line.name] = operands[0][line.index]
        elif line.opcode == "tuple":
            origins[line.name] = operands
        elif line.opcode in ("fusion", "call"):
            inner = computations[line.called[0]]
            origins[line.name] = _follow(computations, inner, operands, found)
        elif line.opcode == "conditional":
            for name, operand in zip(line.called, operands[1:], strict=True):
                _follow(computations, computations[name], [operand], found)
        elif "fixed" in together and together <= {"fixed", "step"} and not _is_free(line):
            found.append(line)
    return origins[next(line.name for line in lines if line.is_root)]


def _all(origins: Origins) -> frozenset:
    return frozenset().union(*map(_all, origins)) if isinstance(origins, list) else origins


def _is_free(line: Instruction) -> bool:
    """True if an operation only moves data, or its result is a single number."""
    sides = re.search(r"\[([\d,]*)\]", line.shape)
    return line.opcode in FREE or sides is None or set(sides[1].split(",")) <= {"", "1"}


def main() -> None:
    config = measure.config_from_flags()
    found = repeated(sampling_program(config, config.batch_size))
    scopes = Counter(f"{line.opcode:12} {re.sub(r'[0-9]+', '*', line.scope)}" for line in found)
    print(f"{len(found)} image-independent operations in the loop's body")
    for scope, count in scopes.most_common():
        print(f"{count:6}  {scope}")


if __name__ == "__main__":
    app.run(main)
