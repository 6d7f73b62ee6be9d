"""Operations of a compiled program: their bytes and FLOPs, parsed from its text.

A program is XLA's, after optimization: `compiled.as_text()`. Its operations are kernels or copies;
a fusion is one operation. This module does not need JAX.
"""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(([^()]*)\)?(.*)$")
CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")

# Opcodes that start no kernel at the top of a program.
NO_KERNEL = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"}
NO_KERNEL |= {"partition-id", "replica-id", "opt-barrier"}
# Opcodes that only move or repeat numbers.
MOVES = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "copy", "copy-start"}
MOVES |= {"transpose", "reshape", "broadcast", "slice", "dynamic-slice", "dynamic-update-slice"}
MOVES |= {"concatenate", "pad", "reverse", "iota"}
SLICES = {"slice", "dynamic-slice", "gather"}

# The classes of operations.
CONVOLUTION = "convolutions"
PRODUCT = "dense products"
ACTIVATIONS = "elementwise and sums on activations"
PARAMETERS = "of parameters' size"
COPY = "copies"
CLASSES = (CONVOLUTION, PRODUCT, ACTIVATIONS, PARAMETERS, COPY)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation; `rest` has its attributes."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    argument: str
    rest: str
    is_root: bool

    @property
    def source(self) -> str:
        """The place in the model it comes from; "" if the compiler added it."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def scope(self) -> str:
        """The part of the source inside a loop's body."""
        return self.source.rpartition("while/body/")[2].removeprefix("closed_call/")

    @property
    def index(self) -> int:
        """The index of a parameter, or of an element of a tuple."""
        is_parameter = self.opcode == "parameter"
        return int(self.argument if is_parameter else re.search(r"index=(\d+)", self.rest)[1])

    @property
    def called(self) -> list[str]:
        """The computations of a fusion, a call or a condition."""
        branches = "".join(BRANCHES.findall(self.rest))
        return CALLED.findall(self.rest) + re.findall(r"%([\w.\-]+)", branches)


@dataclass(frozen=True)
class Operation:
    """A kernel or a copy, with the bytes and FLOPs of one execution.

    Args:
        flops: of convolutions and dense products, two for each multiply-add.
        dtype: of the factors of products, otherwise of the result.
        times: number of executions in the program.
        loop: name of the outermost loop around it; "" for none.
        of_parameters: True if its largest array has the size of parameters, not of images.
    """

    name: str
    kind: str
    bytes: int
    flops: int
    dtype: str
    times: int
    loop: str
    of_parameters: bool
    source: str


Computations = dict[str, list[Instruction]]


def parse(program: str) -> Computations:
    """Parses the instructions of each computation."""
    computations: Computations = {}
    for line in program.splitlines():
        if opening := re.match(r"(?:ENTRY )?%([\w.\-]+) .*\{$", line):
            lines = computations.setdefault(opening[1], [])
        elif found := INSTRUCTION.match(line):
            root, name, shape, opcode, inside, rest = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", inside))
            lines.append(Instruction(name, shape, opcode, operands, inside, rest, bool(root)))
    return computations


def operations(
    program: str, rows: Collection[int], parameters: Collection[tuple[int, ...]]
) -> list[Operation]:
    """Lists the operations of a program in order of execution; a loop's operations appear once.

    Only the branch of a conditional that moves most bytes counts.

    Args:
        rows: numbers of images that an array may hold: all, or a micro-batch, doubled by guidance.
        parameters: shapes of the parameters.
    """
    computations = parse(program)
    shapes = {_without_ones(shape) for shape in parameters}
    sizes = {math.prod(shape) for shape in parameters}

    def of_parameters(dims: tuple[int, ...]) -> bool:
        if _without_ones(dims) in shapes:
            return True
        if math.prod(dims[:1]) in rows or math.prod(dims[:2]) in rows:  # or (2, rows, ...)
            return False
        return math.prod(dims) in sizes or all(side % min(rows) for side in dims)

    def operation(line: Instruction, known: dict[str, str], times: int, loop: str) -> Operation:
        touched = list(_touched(line, known, computations))
        largest = max((array for text in touched for array in arrays(text)), key=_bytes)
        products = list(_products(line, known, computations))
        flops = sum(count for count, _, _ in products)
        inner = computations[line.called[0]] if line.opcode == "fusion" else [line]
        if products:
            kind = CONVOLUTION if any(kind == CONVOLUTION for _, _, kind in products) else PRODUCT
        elif largest[1] and all(step.opcode in MOVES or _is_number(step.shape) for step in inner):
            kind = COPY
        else:
            kind = PARAMETERS if of_parameters(largest[1]) else ACTIVATIONS
        return Operation(
            name=line.name,
            kind=kind,
            bytes=sum(map(size, touched)),
            flops=flops,
            dtype=max(products)[1] if products else arrays(line.shape)[0][0],
            times=times,
            loop=loop,
            of_parameters=of_parameters(largest[1]),
            source=line.source,
        )

    def walk(name: str, times: int, loop: str) -> list[Operation]:
        found = []
        known = {line.name: line.shape for line in computations[name]}
        for line in computations[name]:
            if line.opcode in NO_KERNEL or line.opcode.endswith("-done"):
                continue
            if line.opcode == "while":
                body = re.search(r"body=%([\w.\-]+)", line.rest)[1]
                found += walk(body, times * trip_count(line), loop or line.name)
            elif line.opcode == "conditional":
                branches = [walk(branch, times, loop) for branch in line.called]
                found += max(branches, key=lambda steps: sum(s.bytes * s.times for s in steps))
            elif line.opcode in ("call", "async-start"):
                found += walk(line.called[0], times, loop)
            elif any(_bytes(array) for array in arrays(line.shape)):
                found.append(operation(line, known, times, loop))
        return found

    return walk(re.search(r"^ENTRY %([\w.\-]+)", program, re.M)[1], 1, "")


def trip_count(loop: Instruction) -> int:
    """Returns the number of iterations of a loop; 1 if the program does not have it."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
    return int(found[1]) if found else 1


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (dtype, sides) of an array, or of each array of a tuple."""
    return [
        (dtype, tuple(int(side) for side in sides.split(",") if side))
        for dtype, sides in ARRAY.findall(shape)
    ]


def size(shape: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple."""
    return sum(map(_bytes, arrays(shape)))


def _bytes(array: tuple[str, tuple[int, ...]]) -> int:
    dtype, sides = array
    bits = re.search(r"\d+", dtype)  # none in pred, which takes a byte, and in tokens
    return math.prod(sides) * (int(bits[0]) if bits else 8 * (dtype == "pred")) // 8


def _is_number(shape: str) -> bool:
    return not any(sides for _, sides in arrays(shape))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(side for side in shape if side > 1))


def _touched(line: Instruction, known: dict[str, str], computations: Computations) -> Iterator[str]:
    """Yields the shapes that an operation reads and writes; slices, if it uses a part of an array.

    known: the shapes of the computation's values.
    """
    inner = computations[line.called[0]] if line.opcode == "fusion" else [line]
    inside = {step.name: step for step in inner}
    named = dict(zip(line.operands, line.operands))
    if line.opcode == "fusion":
        given = sorted((s for s in inner if s.opcode == "parameter"), key=lambda step: step.index)
        named = dict(zip(line.operands, (step.name for step in given)))
    for operand, name in named.items():
        yield from _read(inner, name, known[operand])
    if line.opcode == "copy-start":  # its tuple names the operand, too
        yield known[line.operands[0]]
        return
    root = inner[-1] if len(inner) == 1 else next(step for step in inner if step.is_root)
    for name in root.operands if root.opcode == "tuple" else [root.name]:
        while inside[name].opcode == "bitcast":
            name = inside[name].operands[0]
        step = inside[name]
        shapes = known | {step.name: step.shape for step in inner}
        yield shapes[step.operands[1]] if step.opcode == "dynamic-update-slice" else step.shape


def _read(lines: list[Instruction], name: str, shape: str) -> list[str]:
    """Returns the shapes read of an array: all, or slices; none if it is overwritten."""
    parts = []
    for user in (line for line in lines if name in line.operands):
        is_first = user.operands[0] == name
        if user.opcode in SLICES and is_first:
            parts.append(user.shape)
        elif user.opcode == "bitcast":
            parts += _read(lines, user.name, user.shape)
        elif user.opcode != "dynamic-update-slice" or not is_first:
            return [shape]
    return parts if sum(map(size, parts)) < size(shape) else [shape]


def _products(
    line: Instruction, known: dict[str, str], computations: Computations
) -> Iterator[tuple[int, str, str]]:
    """Yields (FLOPs, dtype, class) of the convolutions and dense products in an operation."""
    if line.opcode == "fusion":
        inner = computations[line.called[0]]
        shapes = {step.name: step.shape for step in inner}
        for step in inner:
            yield from _products(step, shapes, computations)
        return
    library = re.search(r'custom_call_target="([^"]*)"', line.rest)
    library = library[1] if library else ""
    labels = re.search(r"dim_labels=[\w?]+_([\w?]+)->", line.rest)
    contracted = re.search(r'lhs_contracting_dim\w*"?[=:][{\[]([\d,"]*)', line.rest)
    if labels and (line.opcode == "convolution" or library.startswith("__cudnn$conv")):
        (dtype, first), second = arrays(known[line.operands[0]])[0], _sides(known, line.operands[1])
        result = arrays(line.shape)[0][1]
        if library == "__cudnn$convBackwardInput":  # of the output's gradient and the kernel
            output, kernel = first, second
        elif library == "__cudnn$convBackwardFilter":  # of the input and the output's gradient
            output, kernel = second, result
        else:
            output, kernel = result, second
        flops = 2 * math.prod(output) * math.prod(kernel) // kernel[labels[1].index("o")]
        holes = re.search(r"lhs_dilate=([\dx]+)", line.rest)
        holes = math.prod(map(int, holes[1].split("x"))) if holes else 1
        yield flops // holes, dtype, CONVOLUTION
    elif contracted and (line.opcode == "dot" or library.startswith("__cublas$")):
        dtype, first = arrays(known[line.operands[0]])[0]
        along = [first[int(axis)] for axis in re.findall(r"\d+", contracted[1])]
        yield 2 * math.prod(arrays(line.shape)[0][1]) * math.prod(along), dtype, PRODUCT


def _sides(known: dict[str, str], name: str) -> tuple[int, ...]:
    return arrays(known[name])[0][1]
