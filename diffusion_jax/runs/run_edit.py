"""Edits of images by a run in Python: uint8 images in, uint8 images out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped
from ml_collections import ConfigDict

from diffusion_jax.generation import edit_files, edits
from diffusion_jax.generation.class_labels import Asked
from diffusion_jax.generation.editing import Editor, inverting
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.pictures.gallery import Gallery

# Files, or uint8 images of the model's own size: (count, height, width, channels), or one of them.
Given = str | Path | Sequence[str | Path] | Shaped[np.ndarray, "..."]


@runtime_checkable
class Editable(Protocol):
    """What an edit needs of a run, see `Run`."""

    config: ConfigDict
    params: PyTree

    def configured(self, settings: Mapping[str, Any]) -> ConfigDict: ...

    def labels(
        self, labels: Asked, count: int | None = None, *, seed: int = 0
    ) -> Int[np.ndarray, "count"]: ...

    def editing_generator(self, config: ConfigDict, count: int) -> Generator: ...

    def pictures(self, drawn: Float[np.ndarray, "..."], config: ConfigDict) -> Gallery: ...


class Edit:
    """What `run.edit` is. Each method returns what is new, as `run.sample` returns images.

    labels: one for all images, or one for each; see `Run.sample`. count: how many results of each
    image, which follow each other. settings: of sampling, see `Run`.
    """

    def __init__(self, run: Editable):
        self._run = run

    def image_to_image(
        self,
        images: Given,
        labels: Asked = "none",
        *,
        strength: float = 0.6,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Images that are noised up to `strength` of the sampling steps, and denoised again."""
        given = self._read(images)
        told = self._labels(labels, len(given))
        editor = self._editor(settings, len(given) * count)
        return self._new(
            edits.image_to_image(editor, given, told, strength=strength, count=count, seed=seed)
        )

    def inpaint(
        self,
        images: Given,
        masks: str | Path | Sequence[str | Path] | Shaped[np.ndarray, "..."],
        labels: Asked = "none",
        *,
        resample: int = 1,
        jump: int = 10,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Images whose masked pixels are drawn anew; the others stay as they are.

        masks: files (white is drawn anew), or an array (height, width) or (count, height, width)
        that is true there; one for all images, or one for each. resample, jump: see RePaint.
        """
        given = self._read(images)
        told = self._labels(labels, len(given))
        kept = self._masks(masks, images, given)
        editor = self._editor(settings, len(given) * count)
        return self._new(
            edits.inpaint(
                editor, given, kept, told, jump=jump, times=resample, count=count, seed=seed
            )
        )

    def interpolate(
        self,
        first: Given | None = None,
        second: Given | None = None,
        labels: Asked = "none",
        *,
        count: int = 8,
        seed: int = 0,
        inverter: str = "ddim",
        **settings: Any,
    ) -> Gallery:
        """`count` images on the way between two, or without them between two noises of the seed.

        first, second: one image each. labels: of the ends.
        """
        ends = None
        if (first is None) != (second is None):
            raise ValueError("One image was given; give a second one, too, or neither")
        if first is not None and second is not None:
            ends = np.concatenate([self._read(first), self._read(second)])
            if len(ends) != 2:
                raise ValueError(f"{len(ends)} images were given; give two, a first and a second")
        editor = self._editor(settings, count, inverter=inverter)
        told = self._labels(labels, 2)
        return self._new(edits.interpolate(editor, ends, told, count=count, seed=seed))

    def vary(
        self,
        labels: Asked,
        *,
        strength: float = 0.6,
        count: int = 4,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """An image for each label, followed by `count` variations of it."""
        told = self._run.labels(labels, seed=seed)
        editor = self._editor(settings, len(told) * count)
        return self._new(edits.vary(editor, told, strength=strength, count=count, seed=seed))

    def invert(
        self, images: Given, labels: Asked = "none", *, inverter: str = "ddim", **settings: Any
    ) -> Gallery:
        """The images that are drawn from the noises that images come from: much the same ones."""
        given = self._read(images)
        editor = self._editor(settings, len(given), inverter=inverter)
        return self._new(edits.invert(editor, given, self._labels(labels, len(given))))

    def enlarge(
        self,
        images: Given,
        labels: Asked = "none",
        *,
        count: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Gallery:
        """Large images for small ones, by a model of super-resolution."""
        config = self._run.config
        side = config.model.get("low_resolution", 0)
        if not side:
            raise ValueError(f"{self._run!r} is no model of super-resolution")
        given = self._read(images, side)
        told = self._labels(labels, len(given))
        editor = self._editor(settings, len(given) * count)
        resolution = config.data.resolution
        return self._new(
            edits.enlarge(editor, given, told, resolution=resolution, count=count, seed=seed)
        )

    def _editor(self, settings: dict[str, Any], count: int, *, inverter: str = "ddim") -> Editor:
        config = self._run.configured(settings)
        back = inverting(config, inverter)
        forwards, backwards = (self._run.editing_generator(c, count) for c in (config, back))
        return Editor(forwards, self._run.params, backwards)

    def _read(self, images: Given, side: int | None = None) -> np.ndarray:
        config = self._run.config
        side = side or config.data.resolution
        if isinstance(images, str | Path):
            images = [images]
        if not isinstance(images, np.ndarray):
            return edit_files.read_images([Path(path) for path in images], config, size=side)
        wanted = (side, side, config.model.channels)
        images = images[None] if images.shape == wanted else images
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise ValueError(
                f"Images of the type {images.dtype} and the shape {images.shape} were given; uint8 "
                f"(count, {', '.join(map(str, wanted))}) is expected, or paths of files"
            )
        return (np.asarray(images) / 127.5 - 1).astype(np.float32)

    def _labels(self, labels: Asked, rows: int) -> Int[np.ndarray, "count"]:
        if isinstance(labels, str) and labels == "none":
            return self._run.labels(labels, rows)
        told = self._run.labels(labels)
        if len(told) not in (1, rows):
            raise ValueError(f"{len(told)} labels for {rows} images; give one for all, or for each")
        return told if len(told) == rows else told.repeat(rows)

    def _masks(self, masks: Any, images: Given, given: np.ndarray) -> np.ndarray:
        """1 where pixels are kept, 0 where they are drawn: (count, height, width, 1)."""
        if not isinstance(masks, np.ndarray):
            if isinstance(images, np.ndarray):
                raise ValueError("Masks in files go with images in files; give an array of both")
            masks = [masks] if isinstance(masks, str | Path) else masks
            images = [images] if isinstance(images, str | Path) else images
            paths = [Path(path) for path in masks]
            paths = paths * len(images) if len(paths) == 1 else paths
            return edit_files.read_masks(paths, [Path(p) for p in images], self._run.config)
        if masks.size % (given.shape[1] * given.shape[2]):
            raise ValueError(
                f"A mask of the shape {masks.shape} was given; {given.shape[1:3]} is expected, or "
                "one of these for each image"
            )
        drawn = np.asarray(masks).reshape(-1, *given.shape[1:3], 1) > 0
        if len(drawn) not in (1, len(given)):
            raise ValueError(f"{len(drawn)} masks for {len(given)} images; give one, or one each")
        if not drawn.any(axis=(1, 2, 3)).all():
            raise ValueError("A mask is false everywhere; make it true where to draw anew")
        return np.broadcast_to(~drawn, (*given.shape[:3], 1)).astype(np.float32)

    def _new(self, edited: edits.Edited) -> Gallery:
        rows = np.stack([edited.columns[name] for name in edited.results], axis=1)
        return self._run.pictures(rows.reshape(-1, *rows.shape[2:]), self._run.config)
