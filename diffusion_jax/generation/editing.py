"""Edits of images with a trained model: each returns new images, and what they were made from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.generation.sampler import Generator, HostImages
from diffusion_jax.sampling.editing import part_of, slerp
from diffusion_jax.sampling.inpainting import resampled

Labels = Int[np.ndarray, "count"]
End = Float[np.ndarray, "1 height width channels"]
Variations = Float[np.ndarray, "variations height width channels"]
SmallImages = Float[np.ndarray, "count small_height small_width channels"]
Masks = Float[np.ndarray, "count height width 1"]

# Solvers that are deterministic with their default options, and so can be run backwards.
INVERTERS = ("ddim", "heun", "dpmpp_2m")
LARGEST_SIGMA = 80.0  # EDM's sigma_max


@dataclass(frozen=True)
class Editor:
    """Edits with one model and one setting of sampling.

    Images are (count, height, width, channels) in [-1, 1], one label for each; image i of a call
    depends on its seed, i and its own inputs. backwards: draws the noise that images come from,
    see `make_editor`. progress: wraps the iteration over batches (tqdm, say).
    """

    generator: Generator
    params: PyTree
    backwards: Generator
    progress: Callable[[Iterable], Iterable] = iter

    def image_to_image(
        self, images: HostImages, labels: Labels, *, strength: float, seed: int
    ) -> HostImages:
        """Images noised up to `strength` of the path, and denoised again.

        Raises ValueError for a strength outside (0, 1], or of less than half a step.
        """
        path = part_of(self.generator.path, strength)
        return self._draw(labels, seed, path=path, inputs={"image": images})

    def vary(
        self, labels: Labels, *, strength: float, count: int, seed: int
    ) -> tuple[HostImages, Variations]:
        """(an image for each label, `count` variations of each: noised and denoised again)."""
        drawn = self._draw(labels, seed)
        inputs = {"image": np.clip(drawn, -1, 1).repeat(count, axis=0)}
        # Numbers that follow: the noise that the image came from must not return.
        path, start = part_of(self.generator.path, strength), len(labels)
        varied = self._draw(labels.repeat(count), seed, start=start, path=path, inputs=inputs)
        return drawn, varied

    def enlarge(self, images: SmallImages, labels: Labels, *, seed: int) -> HostImages:
        """Images drawn for small ones, by a model of super-resolution.

        images: of the side model.low_resolution.
        """
        model = self.generator.model
        condition = {"label": labels if model.num_classes else None, "image": images}
        return self._draw(condition, seed)

    def inpaint(
        self,
        images: HostImages,
        masks: Masks,
        labels: Labels,
        *,
        seed: int,
        jump: int = 10,
        times: int = 1,
    ) -> HostImages:
        """The images with what the masks leave out drawn anew, where they are 0.

        jump, times: see `resampled`; RePaint has 10 and 10. Known pixels come back exactly.
        Raises ValueError for a jump or times that make no path.
        """
        path = self.generator.path
        path = resampled(path, jump=jump, times=times) if times > 1 else path
        return self._draw(labels, seed, path=path, inputs={"known": images, "mask": masks})

    def invert(self, images: HostImages, labels: Labels) -> HostImages:
        """The noises that the images come from, at the first level of `invertible`."""
        path = invertible(self.backwards.path).climbing()
        return self._draw(labels, 0, self.backwards, path=path, inputs={"x": images})

    def again(self, noises: HostImages, labels: Labels) -> HostImages:
        """The images that inverted noises lead back to, with the solver that inverted them."""
        path = invertible(self.backwards.path)
        return self._draw(labels, 0, self.backwards, path=path, inputs={"x": noises})

    def interpolate(
        self, first: End, second: End, labels: Labels, *, seed: int, inverted: bool
    ) -> HostImages:
        """Images from the first noise to the second, one for each label.

        inverted: whether the noises are from `invert`, or else from `noises`.
        """
        fractions = np.linspace(0, 1, len(labels), dtype=np.float32)
        ends = (jnp.repeat(jnp.asarray(end), len(labels), axis=0) for end in (first, second))
        noises = np.asarray(slerp(*ends, jnp.asarray(fractions)))
        path = self.generator.path
        path = invertible(path) if inverted else path
        return self._draw(labels, seed, path=path, inputs={"x": noises})

    def noises(self, count: int, *, seed: int) -> HostImages:
        """What sampling with this seed starts from."""
        return self.generator.starts(count, seed=seed)

    def _draw(
        self, condition: PyTree, seed: int, generator: Generator | None = None, **how: Any
    ) -> HostImages:
        generator = generator or self.generator
        drawn, _ = generator(self.params, condition, seed=seed, progress=self.progress, **how)
        return drawn


def invertible(path: Path) -> Path:
    """The rest of a path from the first level whose noise / signal is at most `LARGEST_SIGMA`.

    A network that estimates the noise knows x0 = (x - noise eps) / signal to 1 / signal times its
    own error, so that an image is lost where next to nothing of it is left.
    Raises ValueError if fewer than two such levels have noise.
    """
    levels = path.levels()
    sigma = np.asarray(levels.sigma) / np.asarray(levels.alpha)
    if np.sum((sigma > 0) & (sigma <= LARGEST_SIGMA)) < 2:
        raise ValueError(
            f"Of {path.num_steps} sampling steps there are not two with noise / signal up to "
            f"{LARGEST_SIGMA:.0f}, which an inversion needs; choose more steps"
        )
    return path.since(int(np.flatnonzero(sigma <= LARGEST_SIGMA)[0]))


def make_editor(
    config: ConfigDict,
    params: PyTree,
    *,
    batch_size: int,
    inverter: str = "ddim",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Editor:
    """An editor with a config's model and sampling settings. inverter: see `inverting`."""
    back = inverting(config, inverter)
    return Editor(
        Generator.from_config(config, batch_size=batch_size),
        params,
        Generator.from_config(back, batch_size=batch_size),
        progress,
    )


def inverting(config: ConfigDict, inverter: str) -> ConfigDict:
    """The config for running backwards: without guidance and clipping, which cannot be undone.

    inverter: the solver, one of `INVERTERS`. Raises ValueError for another.
    """
    if inverter not in INVERTERS:
        raise ValueError(f"inverter={inverter} must be one of {', '.join(INVERTERS)}")
    back = config.copy_and_resolve_references()
    with back.unlocked():
        back.sampling.update(solver=inverter, clip=False, dynamic_threshold=0.0, guidance=0.0)
        back.sampling.update(autoguidance="", autoguidance_checkpoint=0)
        back.sampling.update(classifier="", classifier_checkpoint=0)
    return back
