"""What the compiled sampling loop computes in every step though no image goes into it.

python -m benchmarks.loop_body --config configs/res_res.py --batch 8 --dtype bfloat16

Read from the optimized program, so that what the compiler moves out of the loop, or into it, counts
as it runs.
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

# What goes into a value, or into each element of a tuple.
Origins = frozenset | list


def sampler(config: ConfigDict, batch_size: int, without_passes: str = "") -> str:
    """One device's optimized program to draw images with a config; its parameters are not needed.

    batch_size: global. without_passes: names of the compiler's passes to leave out, with commas
    between them.
    """
    generator = Sampler.from_experiment(Experiment.from_config(config), batch_size=batch_size)
    fixed, numbers = generator._numbers(generator.settings, generator.options, generator.path, 0)
    labels = jax.ShapeDtypeStruct((batch_size // jax.device_count(),), np.int32)
    model = make_model(config)
    params = jax.eval_shape(lambda: init_params(model, 0, config.data.resolution))
    batch = {"condition": labels, "inputs": {}, "index": labels}
    lowered = jax.jit(partial(generator._draw, fixed)).lower((params, None), numbers, batch)
    options = {"xla_disable_hlo_passes": without_passes} if without_passes else None
    return lowered.compile(options).as_text()


def repeated(program: str) -> list[Instruction]:
    """Operations in the body of the longest loop into which parameters or labels go, but no image.

    Also those into which a level goes besides. Single numbers and random bits do not count, nor
    what only moves numbers.
    """
    computations = parse(program)
    loops = [line for lines in computations.values() for line in lines if line.opcode == "while"]
    bodies = [computations[re.search(r"body=%([\w.\-]+)", loop.rest)[1]] for loop in loops]
    body = max(bodies, key=len)
    by_name = {line.name: line for line in body}

    def origin(index: int, name: str) -> frozenset:
        """Of the element of the carried tuple that ends up with this name."""
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
    """The origins of a computation's result; `found` gets what it repeats."""
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
    """Whether it does not count: it only moves numbers, or there is a single one."""
    sides = re.search(r"\[([\d,]*)\]", line.shape)
    return line.opcode in FREE or sides is None or set(sides[1].split(",")) <= {"", "1"}


def main() -> None:
    config = measure.config_from_flags()
    found = repeated(sampler(config, config.batch_size))
    scopes = Counter(f"{line.opcode:12} {re.sub(r'[0-9]+', '*', line.scope)}" for line in found)
    print(f"{len(found)} operations without an image in the loop's body")
    for scope, count in scopes.most_common():
        print(f"{count:6}  {scope}")


if __name__ == "__main__":
    app.run(main)
