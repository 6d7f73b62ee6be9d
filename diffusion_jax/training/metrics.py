"""Means of the loss terms over examples and steps, by name."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average
from jaxtyping import Array

from diffusion_jax import parallel

Metrics = dict[str, Average]


def gather(parts: dict[str, Array]) -> Metrics:
    """Averages values, one per row or one per device, over all devices.

    For use inside `parallel.data_parallel`.
    """
    averages = {name: Average.from_model_output(values) for name, values in parts.items()}
    return {name: average.reduce() for name, average in parallel.stack(averages).items()}


def single(value: Array) -> Average:
    """Wraps one value, equal on all devices, as a mean."""
    return Average.from_model_output(value.astype(jnp.float32)[None])


def without_losses(metrics: Metrics) -> Metrics:
    """Returns the metrics of a skipped step: only "skipped" counts."""
    nothing = Average(total=np.float32(0), count=np.int32(0))
    return {name: value if name == "skipped" else nothing for name, value in metrics.items()}


def means(metrics: Metrics) -> dict[str, float]:
    """Computes the means on the host, leaving out metrics without examples."""
    averages = jax.device_get(metrics).items()
    return {name: float(average.compute()) for name, average in averages if average.count}


class RunningMeans:
    """Running means of metrics on the host.

    saved: initial sums, a result of the method `saved`; None to start from nothing.
    """

    def __init__(self, saved: Mapping[str, Sequence[float | int]] | None = None):
        self._total = {
            name: Average(total=np.float32(total), count=np.int32(count))
            for name, (total, count) in (saved or {}).items()
        }

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of one step; resets the means if their names have changed."""
        if self._total.keys() == metrics.keys():
            metrics = {name: self._total[name].merge(more) for name, more in metrics.items()}
        self._total = metrics

    def take(self) -> dict[str, float]:
        """Returns the means and resets them."""
        total, self._total = self._total, {}
        return means(total)

    def saved(self) -> dict[str, tuple[float, int]]:
        """Returns the exact sums, for JSON."""
        return {
            name: (float(average.total), int(average.count))
            for name, average in self._total.items()
        }
