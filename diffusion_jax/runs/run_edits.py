"""The edits of a run in Python: uint8 images in, uint8 images out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.checks import check_count
from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import LabelsLike, parse_word
from diffusion_jax.generation.edit import Editor, for_inversion
from diffusion_jax.generation.input_images import Array, Files, read_images
from diffusion_jax.generation.masks import read_masks
from diffusion_jax.generation.sampler import HostImages, Sampler
from diffusion_jax.images import Uint8Images
from diffusion_jax.pictures.gallery import Gallery

VARIED = 4  # samples to vary, unless labels are listed


@runtime_checkable
class EditableRun(Protocol):
    """Interface of a run that can be edited with; see `Run`."""

    workdir: Path
    config: ConfigDict
    class_names: list[str]
    params: PyTree
    step: int
    ema: bool

    def experiment_with(self, settings: Mapping[str, Any]) -> Experiment: ...

    def labels(
        self, labels: LabelsLike, count: int | None = None, *, seed: int = 0
    ) -> Int[np.ndarray, "count"]: ...

    def editing_sampler(
        self, experiment: Experiment, count: int, *, batch_size: int | None = None
    ) -> Sampler: ...

    def gallery(self, samples: Float[np.ndarray, "..."], experiment: Experiment) -> Gallery: ...


@dataclass(frozen=True)
class RunEdits:
    """Image edits with a run, as `run.edit`.

    Images are files, or uint8 arrays of the size of the model's input; see `read_images`. Labels
    are one for all images or one for each; see `Run.sample`. The `count` results of an image are
    adjacent. Further keyword arguments are sampling settings; see `Run`.

    Args:
        run: the run.
        batch_size: images at a time, on all devices; None chooses.
        progress: wrapper of the iteration over batches, such as tqdm.
    """

    run: EditableRun
    batch_size: int | None = None
    progress: Callable[[Iterable], Iterable] = iter

    def image_to_image(
        self,
        images: Files | Array,
        labels: LabelsLike = "none",
        *,
        strength: float = 0.6,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Adds noise to images and denoises them; see `Editor.image_to_image`."""
        x0 = to_float(self.images(images))
        labels = self.labels(labels, len(x0), seed=seed)
        check_count("count", count)
        editor = self.editor(len(x0) * count, settings)
        results = editor.image_to_image(x0, labels, strength=strength, count=count, seed=seed)
        return self._gallery(results, settings)

    def inpaint(
        self,
        images: Files | Array,
        masks: Files | Array,
        labels: LabelsLike = "none",
        *,
        resample: int = 1,
        jump: int = 10,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Replaces the pixels of the masks; see `read_masks` and `Editor.inpaint`."""
        x0 = to_float(self.images(images))
        masks = self.masks(masks, images, len(x0))
        labels = self.labels(labels, len(x0), seed=seed)
        check_count("count", count)
        editor = self.editor(len(x0) * count, settings)
        results = editor.inpaint(
            x0, masks, labels, resample=resample, jump=jump, count=count, seed=seed
        )
        return self._gallery(results, settings)

    def interpolate(
        self,
        first: Files | Array | None = None,
        second: Files | Array | None = None,
        labels: LabelsLike = "none",
        *,
        count: int = 8,
        seed: int = 0,
        seeds: tuple[int, int] | None = None,
        inverter: str = "ddim",
        **settings: Any,
    ) -> Gallery:
        """Samples `count` images between two images, or between two noises.

        Args:
            first: one image, which is inverted; None to begin at noise.
            second: one image, which is inverted; None to end at noise.
            labels: labels of the two ends.
            seeds: seeds whose first noises are the ends; None for the first two noises of `seed`.
            inverter: the solver of the inversion; see `for_inversion`.
        """
        check_count("count", count)
        labels = self.labels(labels, 2, seed=seed)
        editor = self.editor(count, settings)
        if first is not None and second is not None:
            x0 = to_float(np.concatenate([self.images(first), self.images(second)]))
            if len(x0) != 2:
                raise ValueError(f"{len(x0)} images were given; give one first and one second")
            ends = self.editor(count, settings, inverter=inverter).invert(x0, labels)
        elif first is not None or second is not None:
            raise ValueError("One image was given; give a second one, too, or neither")
        elif seeds is not None:
            ends = np.concatenate([editor.initial_noise(1, seed=end) for end in seeds])
        else:
            ends = editor.initial_noise(2, seed=seed)
        inverted = first is not None
        results = editor.interpolate(ends, labels, count=count, seed=seed, inverted=inverted)
        return self._gallery(results, settings)

    def vary(
        self,
        labels: LabelsLike,
        *,
        strength: float = 0.6,
        count: int = 4,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Samples an image for each label, followed by `count` variations of it."""
        labels = self.labels(labels, seed=seed)
        check_count("count", count)
        editor = self.editor(len(labels) * count, settings)
        samples, variations = editor.vary(labels, strength=strength, count=count, seed=seed)
        groups = [samples[:, None], variations.reshape(len(samples), count, *samples.shape[1:])]
        return self._gallery(np.concatenate(np.concatenate(groups, axis=1)), settings)

    def enlarge(
        self,
        images: Files | Array,
        labels: LabelsLike = "none",
        *,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Samples large images for small ones, with a super-resolution model."""
        x0 = to_float(self.images(images, enlarging=True))
        labels = self.labels(labels, len(x0), seed=seed)
        check_count("count", count)
        editor = self.editor(len(x0) * count, settings, enlarging=True)
        return self._gallery(editor.enlarge(x0, labels, count=count, seed=seed), settings)

    def invert(
        self,
        images: Files | Array,
        labels: LabelsLike = "none",
        *,
        inverter: str = "ddim",
        **settings: Any,
    ) -> Float[np.ndarray, "rows height width channels"]:
        """Returns the noise that deterministic sampling maps to the images."""
        x0 = to_float(self.images(images))
        editor = self.editor(len(x0), settings, inverter=inverter)
        return editor.invert(x0, self.labels(labels, len(x0)))

    def reconstruct(
        self,
        noise: Float[np.ndarray, "rows height width channels"],
        labels: LabelsLike = "none",
        *,
        inverter: str = "ddim",
        **settings: Any,
    ) -> Gallery:
        """Samples images from the noise of `invert`, with the same solver and settings."""
        editor = self.editor(len(noise), settings, inverter=inverter)
        results = editor.reconstruct(noise, self.labels(labels, len(noise)))
        return self._gallery(results, settings)

    def images(self, images: Files | Array, *, enlarging: bool = False) -> Uint8Images:
        """Returns images in the size of the model's input; see `read_images`."""
        side, channels = self._input_side(enlarging), self.run.config.model.channels
        return read_images(images, side=side, channels=channels)

    def masks(
        self, masks: Files | Array, images: Files | Array, rows: int
    ) -> Bool[np.ndarray, "{rows} height width"]:
        """Returns a mask for each of `rows` images; see `read_masks`."""
        return read_masks(masks, images, side=self.run.config.data.resolution, rows=rows)

    def labels(
        self, labels: LabelsLike, rows: int | None = None, *, seed: int = 0
    ) -> Int[np.ndarray, "rows"]:
        """Returns a label for each row.

        Args:
            rows: the number of images; None for one row for each label, or `VARIED` rows of
                "none" or "random".
        """
        if isinstance(labels, str) and self._word(labels) in ("none", "random"):
            return self.run.labels(labels, rows or VARIED, seed=seed)
        chosen = self.run.labels(labels, seed=seed)
        if rows is None or len(chosen) == rows:
            return chosen
        if len(chosen) != 1:
            raise ValueError(
                f"{len(chosen)} labels for {rows} images; give one for all, or one for each"
            )
        return chosen.repeat(rows)

    def _word(self, labels: str) -> str | None:
        _, names = guidance_models.classes_of(self.run.config, self.run.class_names)
        return parse_word(labels, names)

    def editor(
        self,
        rows: int,
        settings: Mapping[str, Any],
        *,
        inverter: str | None = None,
        enlarging: bool = False,
    ) -> Editor:
        """Returns the editor of these sampling settings, for about `rows` images at a time.

        Args:
            inverter: the solver of an editor that inverts; None for the solver of the settings.
        """
        self._input_side(enlarging)
        experiment = self.run.experiment_with(settings)
        experiment = for_inversion(experiment, inverter) if inverter else experiment
        sampler = self.run.editing_sampler(experiment, rows, batch_size=self.batch_size)
        return Editor(sampler, self.run.params, self.progress)

    def _input_side(self, enlarging: bool) -> int:
        """Returns the side of input images. Raises ValueError if the model has another use."""
        small = self.run.config.model.get("low_resolution")
        if small and not enlarging:
            raise ValueError(
                f"The model of {self.run.workdir} enlarges images of {small}x{small}: use `enlarge`"
            )
        if enlarging and not small:
            raise ValueError(
                f"{self.run!r} is not a super-resolution model (model.low_resolution is not set); "
                "`scripts.sample --upscaler` enlarges the samples of any model"
            )
        return small or self.run.config.data.resolution

    def _gallery(self, results: HostImages, settings: Mapping[str, Any]) -> Gallery:
        return self.run.gallery(results, self.run.experiment_with(settings))


def to_float(images: Uint8Images) -> Float[np.ndarray, "batch height width channels"]:
    """Converts 0 .. 255 to [-1, 1]."""
    return (images / 127.5 - 1).astype(np.float32)
