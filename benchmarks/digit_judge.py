"""A support vector machine that says which digits drawn images look like."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict


def judge():
    """(an SVM fitted to all real digits, its accuracy on real digits it has not seen)."""
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
    """The share of images that the judge takes for what was asked for, by seed."""
    from diffusion_jax import images, parallel
    from diffusion_jax.config.experiment import Experiment
    from diffusion_jax.generation.sampler import Sampler

    labels = np.repeat(np.arange(10, dtype=np.int32), per_digit)
    generator = Sampler.from_experiment(
        Experiment.from_config(config), batch_size=parallel.round_up(40)
    )
    shares = {}
    for seed in seeds:
        begin = time.monotonic()
        drawn, _ = generator(params, labels, seed=seed)
        seconds = time.monotonic() - begin
        pixels = images.to_uint8(drawn).reshape(len(labels), -1)
        right = model.predict(pixels * (16 / 255)) == labels
        by_digit = right.reshape(10, -1).sum(axis=1)
        shares[seed] = float(right.mean())
        print(
            f"Seed {seed}: {right.sum()} of {len(labels)} are what was asked for "
            f"({right.mean():.1%}; of 0 to 9: {by_digit.tolist()}), {seconds:.1f} s"
        )
    return shares
