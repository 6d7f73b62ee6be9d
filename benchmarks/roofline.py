"""Roofline times of a program's operations, and the operations that are bound by memory.

The time of an operation is the longer of moving its bytes and computing its products. Operations
run one after the other, without launch overhead.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.hlo import CLASSES, COPY, PARAMETERS, Operation

COLUMNS = ("operations", "bytes", "flops")


@dataclass(frozen=True)
class Rates:
    """Bytes and FLOPs in a second, the latter by the dtype of the factors."""

    bytes_per_second: float
    bfloat16: float
    float32: float

    def seconds(self, step: Operation) -> float:
        """Computes the time of one execution."""
        return max(step.bytes / self.bytes_per_second, self.compute_seconds(step))

    def compute_seconds(self, step: Operation) -> float:
        """Computes the time of the products alone."""
        return step.flops / (self.bfloat16 if step.dtype in ("bf16", "f16") else self.float32)


def table(steps: Sequence[Operation], rates: dict[str, Rates]) -> dict[str, dict[str, float]]:
    """Sums executions, bytes, FLOPs and seconds at each of the rates, by class of operation."""
    sums: dict[str, Counter] = {kind: Counter() for kind in CLASSES}
    for step in steps:
        total = sums[step.kind]
        total["operations"] += step.times
        total["bytes"] += step.times * step.bytes
        total["flops"] += step.times * step.flops
        for name, given in rates.items():
            total[name] += step.times * given.seconds(step)
    return {kind: {n: total[n] for n in (*COLUMNS, *rates)} for kind, total in sums.items()}


def bound_by_memory(steps: Sequence[Operation], rates: Rates, top: int) -> list[dict[str, Any]]:
    """Returns the operations that move bytes for longer than they compute, longest first."""
    found = [s for s in steps if s.bytes / rates.bytes_per_second > rates.compute_seconds(s)]
    found.sort(key=lambda step: -step.times * step.bytes)
    return [
        {
            "name": step.name,
            "class": step.kind,
            "seconds": step.times * rates.seconds(step),
            "bytes": step.bytes,
            "times": step.times,
            "source": step.source,
        }
        for step in found[:top]
    ]


def longest_loop(
    steps: Sequence[Operation], rates: dict[str, Rates], top: int
) -> dict[str, Any] | None:
    """Describes a step of the loop that moves most bytes; returns None without a loop.

    The entry "of_parameters" has the operations that only rewrite or sum arrays of the size of
    parameters, which no step changes: sources, and their bytes in a step.
    """
    loops: dict[str, list[Operation]] = defaultdict(list)
    for step in steps:
        loops[step.loop].append(step)
    loops.pop("", None)
    if not loops:
        return None
    body = max(loops.values(), key=lambda body: sum(step.times * step.bytes for step in body))
    count = min(step.times for step in body)
    idle = [step for step in body if step.of_parameters and step.kind in (PARAMETERS, COPY)]
    sources: Counter = Counter()
    for step in idle:
        place = re.sub(r"\d+", "*", step.source.rpartition("while/body/")[2])
        sources[place or step.name] += step.bytes * step.times / count
    classes = table(body, rates)
    return {
        "steps": count,
        "classes": {k: {n: v / count for n, v in row.items()} for k, row in classes.items()},
        "of_parameters": {
            "operations": len(idle),
            "bytes": sum(sources.values()),
            "sources": dict(sources.most_common(top)),
        },
    }
