"""Edits of images by a diffusion model, on arrays in [-1, 1]."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.checks import check_count
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.generation.sampler import HostImages, Sampler
from diffusion_jax.sampling.editing import part_of, slerp
from diffusion_jax.sampling.inpainting import resampled
from diffusion_jax.sampling.spacing.automatic import AUTO

Rows = Float[np.ndarray, "rows height width channels"]
Results = Float[np.ndarray, "{count}*rows height width channels"]
Labels = Int[np.ndarray, "rows"]

# Solvers that are deterministic with their default options, and so run in both directions.
INVERTERS = ("ddim", "heun", "dpmpp_2m")
LARGEST_SIGMA = 80.0  # EDM's sigma_max


@dataclass(frozen=True)
class Editor:
    """Image edits with one sampler and one set of parameters.

    Images are (rows, height, width, channels) in [-1, 1], with one label each. With `count`
    results for an image, the results of one image are adjacent. Result i depends only on the
    seed, on i and on its own inputs.

    Args:
        sampler: compiled sampling program, whose sampling schedule all edits use.
        params: parameters of the network.
        progress: wrapper of the iteration over batches, such as tqdm.
    """

    sampler: Sampler
    params: PyTree
    progress: Callable[[Iterable], Iterable] = iter

    def image_to_image(
        self, images: Rows, labels: Labels, *, strength: float, count: int = 1, seed: int
    ) -> Results:
        """Adds noise to images and denoises them. SDEdit (arXiv:2108.01073).

        Args:
            strength: fraction of the sampling steps, in (0, 1]; 1 keeps almost nothing.

        Raises:
            ValueError: the strength is outside (0, 1], or less than half a step.
        """
        schedule = part_of(self.sampler.sampling_schedule, strength)
        inputs = {"image": images.repeat(count, axis=0)}
        return self._sample(labels.repeat(count), seed, sampling_schedule=schedule, inputs=inputs)

    def vary(
        self, labels: Labels, *, strength: float, count: int, seed: int
    ) -> tuple[Rows, Results]:
        """Samples one image for each label, and `count` variations of each by `image_to_image`.

        Returns:
            The samples, and the variations.
        """
        images = self._sample(labels, seed)
        inputs = {"image": np.clip(images, -1, 1).repeat(count, axis=0)}
        # Indices continue after the samples, so that variations have other noise.
        schedule, start = part_of(self.sampler.sampling_schedule, strength), len(labels)
        return images, self._sample(
            labels.repeat(count), seed, start=start, sampling_schedule=schedule, inputs=inputs
        )

    def inpaint(
        self,
        images: Rows,
        masks: Bool[np.ndarray, "rows height width"],
        labels: Labels,
        *,
        resample: int = 1,
        jump: int = 10,
        count: int = 1,
        seed: int,
    ) -> Results:
        """Replaces the pixels where the mask is True; the others do not change.

        Args:
            resample: passes over each `jump` steps, with noise added in between. RePaint
                (arXiv:2201.09865) uses 10.

        Raises:
            ValueError: the jump is not shorter than the sampling schedule.
        """
        check_count("resample", resample)
        schedule = self.sampler.sampling_schedule
        if resample > 1:
            schedule = resampled(schedule, jump=jump, times=resample)
        replaced = masks[..., None].astype(np.float32)
        inputs = {"known": images.repeat(count, axis=0), "mask": replaced.repeat(count, axis=0)}
        return self._sample(labels.repeat(count), seed, sampling_schedule=schedule, inputs=inputs)

    def enlarge(
        self, images: Rows, labels: Labels, *, count: int = 1, seed: int
    ) -> Float[np.ndarray, "{count}*rows large_height large_width channels"]:
        """Samples large images for small ones of side `model.low_resolution`."""
        repeated = labels.repeat(count) if self.sampler.model.num_classes else None
        return self._sample({"label": repeated, "image": images.repeat(count, axis=0)}, seed)

    def initial_noise(
        self, rows: int, *, seed: int
    ) -> Float[np.ndarray, "{rows} height width channels"]:
        """Returns the noise that the first images of a seed are sampled from."""
        return self.sampler.initial_noise(rows, seed=seed)

    def invert(self, images: Rows, labels: Labels) -> Rows:
        """Integrates the probability flow from images to noise, at the first level of `invertible`.

        The sampler must come from `for_inversion`. DDIM (arXiv:2010.02502), section 4.3.
        """
        schedule = invertible(self.sampler.sampling_schedule).reversed()
        return self._sample(labels, 0, sampling_schedule=schedule, inputs={"x": images})

    def reconstruct(self, noise: Rows, labels: Labels) -> Rows:
        """Integrates the probability flow from the noise of `invert` back to images."""
        schedule = invertible(self.sampler.sampling_schedule)
        return self._sample(labels, 0, sampling_schedule=schedule, inputs={"x": noise})

    def interpolate(
        self,
        ends: Float[np.ndarray, "2 height width channels"],
        labels: Int[np.ndarray, "2"],
        *,
        count: int,
        seed: int,
        inverted: bool,
    ) -> Float[np.ndarray, "{count} height width channels"]:
        """Samples `count` images from noise on the great circle between two ends.

        Args:
            ends: two noises.
            labels: labels of the ends; each image has the label of the nearer end.
            inverted: True for noise of `invert`, False for noise of `initial_noise`.
        """
        fractions = jnp.linspace(0, 1, count, dtype=jnp.float32)
        first, second = (jnp.repeat(jnp.asarray(end)[None], count, axis=0) for end in ends)
        noise = np.asarray(slerp(first, second, fractions))
        schedule = (
            invertible(self.sampler.sampling_schedule)
            if inverted
            else self.sampler.sampling_schedule
        )
        nearer = labels[np.arange(count) * 2 // count]
        return self._sample(nearer, seed, sampling_schedule=schedule, inputs={"x": noise})

    def _sample(self, condition: PyTree, seed: int, **settings: Any) -> HostImages:
        images, _ = self.sampler(
            self.params, condition, seed=seed, progress=self.progress, **settings
        )
        return images


def invertible(schedule: SamplingSchedule) -> SamplingSchedule:
    """Returns the rest of a schedule from the first sigma / alpha up to `LARGEST_SIGMA`.

    The error of x0 = (x - sigma eps) / alpha is 1 / alpha times the network's error in eps. Above
    that level it exceeds the image.
    Raises ValueError if fewer than two such levels have noise.
    """
    levels = schedule.levels
    sigma = np.asarray(levels.sigma) / np.asarray(levels.alpha)
    if np.sum((sigma > 0) & (sigma <= LARGEST_SIGMA)) < 2:
        raise ValueError(
            f"Fewer than two of {schedule.num_steps} sampling steps have sigma / alpha in "
            f"(0, {LARGEST_SIGMA:.0f}], and an inversion needs two; use more steps"
        )
    return schedule.from_level(int(np.flatnonzero(sigma <= LARGEST_SIGMA)[0]))


def for_inversion(experiment: Experiment, inverter: str) -> Experiment:
    """Returns the experiment without guidance and clipping, which cannot be inverted.

    Where spacing is auto, it is "ends": the way back retraces small steps best.

    Args:
        inverter: the solver, one of `INVERTERS`.
    """
    if inverter not in INVERTERS:
        raise ValueError(f"Unknown inverter {inverter!r}; known inverters: {', '.join(INVERTERS)}")
    sampling = experiment.config.sampling.copy_and_resolve_references()
    sampling.update(solver=inverter, clip=False, dynamic_threshold=None, guidance=0.0)
    sampling.update(autoguidance=None, autoguidance_checkpoint=None)
    sampling.update(classifier=None, classifier_checkpoint=None)
    if sampling.spacing == AUTO:
        sampling.spacing = "ends"
    return experiment.with_sampling(sampling)
