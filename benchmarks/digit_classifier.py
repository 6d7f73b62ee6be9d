"""A support vector machine that classifies sampled digits."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict


def fit() -> tuple[Any, float]:
    """Returns (an SVM fitted to all real digits, its cross-validated accuracy)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    digits = load_digits()
    model = SVC(gamma=0.001)
    accuracy = cross_val_score(model, digits.data, digits.target, cv=5).mean()
    return model.fit(digits.data, digits.target), float(accuracy)


def recognized(
    config: ConfigDict, params: PyTree, model: Any, *, per_digit: int, seeds: Iterable[int]
) -> dict[int, float]:
    """Computes the share of samples that the SVM recognizes as their labels, by seed."""
    from diffusion_jax import images, parallel
    from diffusion_jax.config.experiment import Experiment
    from diffusion_jax.generation.sampler import Sampler

    labels = np.repeat(np.arange(10, dtype=np.int32), per_digit)
    sampler = Sampler.from_experiment(
        Experiment.from_config(config), batch_size=parallel.round_up(40)
    )
    shares = {}
    for seed in seeds:
        begin = time.monotonic()
        samples, _ = sampler(params, labels, seed=seed)
        seconds = time.monotonic() - begin
        pixels = images.to_uint8(samples).reshape(len(labels), -1)
        right = model.predict(pixels * (16 / 255)) == labels
        by_digit = right.reshape(10, -1).sum(axis=1)
        shares[seed] = float(right.mean())
        print(
            f"Seed {seed}: {right.sum()} of {len(labels)} are recognized "
            f"({right.mean():.1%}; of 0 to 9: {by_digit.tolist()}), {seconds:.1f} s"
        )
    return shares
