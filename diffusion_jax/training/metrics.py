"""Means of the parts of the loss over examples and steps, by name."""

import jax
from clu.metrics import Average
from jaxtyping import Array

from diffusion_jax import parallel

Metrics = dict[str, Average]


def gathered(parts: dict[str, Array]) -> Metrics:
    """Inside `parallel.data_parallel`: the means over the rows of all devices."""
    averages = {name: Average.from_model_output(values) for name, values in parts.items()}
    return {name: average.reduce() for name, average in parallel.stack(averages).items()}


def merge(total: Metrics | None, more: Metrics) -> Metrics:
    """The means over both; None is nothing yet."""
    if total is None:
        return more
    return {name: average.merge(more[name]) for name, average in total.items()}


def means(metrics: Metrics) -> dict[str, float]:
    """The numbers themselves, on the host."""
    return {name: float(average.compute()) for name, average in jax.device_get(metrics).items()}
