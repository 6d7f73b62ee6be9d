"""Means of the parts of the loss over examples and steps, by name."""

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


def merge(total: Metrics | None, more: Metrics) -> Metrics:
    """The means over both; None is nothing yet."""
    if total is None:
        return more
    return {name: average.merge(more[name]) for name, average in total.items()}


def without_losses(metrics: Metrics) -> Metrics:
    """Those of a step that was skipped: that it was, and nothing else."""
    nothing = Average(total=np.float32(0), count=np.int32(0))
    return {name: value if name == "skipped" else nothing for name, value in metrics.items()}


def means(metrics: Metrics) -> dict[str, float]:
    """The numbers themselves, on the host; without those of no example."""
    averages = jax.device_get(metrics).items()
    return {name: float(average.compute()) for name, average in averages if average.count}
