"""Means of the parts of the loss over examples and steps, by name."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average
from jaxtyping import Array

from diffusion_jax import parallel

Metrics = dict[str, Average]


def gathered(parts: dict[str, Array]) -> Metrics:
    """Inside `parallel.data_parallel`: the means over the rows of all devices."""
    averages = {name: Average.from_model_output(values) for name, values in parts.items()}
    return {name: average.reduce() for name, average in parallel.stack(averages).items()}


def single(value: Array) -> Average:
    """The mean of one value, which is equal on all devices."""
    return Average.from_model_output(value.astype(jnp.float32)[None])


def without_losses(metrics: Metrics) -> Metrics:
    """Those of a step that was skipped: that it was, and nothing else."""
    nothing = Average(total=np.float32(0), count=np.int32(0))
    return {name: value if name == "skipped" else nothing for name, value in metrics.items()}


def means(metrics: Metrics) -> dict[str, float]:
    """The numbers themselves, on the host; without those of no example."""
    averages = jax.device_get(metrics).items()
    return {name: float(average.compute()) for name, average in averages if average.count}


class Running:
    """The means since they were last taken, on the host.

    saved: what `saved` of another one returned, from which this one goes on.
    """

    def __init__(self, saved: Mapping[str, Sequence[float | int]] | None = None):
        self._total = {
            name: Average(total=np.float32(total), count=np.int32(count))
            for name, (total, count) in (saved or {}).items()
        }

    def add(self, metrics: Metrics) -> None:
        """The metrics of one more step. They begin anew where these have other names."""
        if self._total.keys() == metrics.keys():
            metrics = {name: self._total[name].merge(more) for name, more in metrics.items()}
        self._total = metrics

    def take(self) -> dict[str, float]:
        """The means; those after it begin anew."""
        total, self._total = self._total, {}
        return means(total)

    def saved(self) -> dict[str, tuple[float, int]]:
        """What was added since, for JSON, from which the same numbers are restored exactly."""
        return {
            name: (float(average.total), int(average.count))
            for name, average in self._total.items()
        }
