"""From parameters to images: a trained network, guidance and a sampler as one compiled program."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.diffusion import guidance, keys, process, schedules
from diffusion_jax.runs import configuration
from diffusion_jax.sampling import SAMPLERS, sample
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import init_params

HostImages = Float[np.ndarray, "count height width channels"]
Film = Float[np.ndarray, "count frames height width channels"]


def load_params(
    workdir: Path, config: ConfigDict, *, checkpoint: int | None = None, ema: bool = True
) -> tuple[int, PyTree]:
    """(step, parameters) of one checkpoint of a run, on every device.

    checkpoint: its step; None is the newest. ema: the averaged parameters, or else the raw ones.
    Raises FileNotFoundError if there is none, ValueError if it is not of the config's model.
    """
    model = configuration.make_model(config)
    like = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    with Checkpoints(workdir / configuration.CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        return step, parallel.replicate(checkpoints.restore_params(step, like, ema=ema))


class Generator:
    """Draws images on all devices, in batches of one size, with one compilation.

    schedule: the chain to run, see `schedules.sampling_schedule`. sampler: one of
    `sampling.SAMPLERS`; "reference" also guides and clips as the original does. batch_size: global,
    divisible by the number of devices. clip: whether the predicted x0 is clipped to [-1, 1] at
    every step. frames: how many states of the chain to return. guided: whether guidance is
    computed, at twice the cost. learned_variance: whether the noise of eta > 0 has the variance
    that the model says.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: schedules.Schedule,
        *,
        sampler: str,
        resolution: int,
        batch_size: int,
        clip: bool,
        guided: bool,
        learned_variance: bool,
        frames: int = 0,
    ):
        parallel.check_batch_size(batch_size)
        self.batch_size = batch_size
        shape = (resolution, resolution, model.channels)
        as_reference = sampler == "reference"

        def draw(params: PyTree, numbers: PyTree, batch: PyTree) -> tuple[jax.Array, jax.Array]:
            network = partial(model.apply, {"params": params}, examples=batch["index"])
            labelled = process.denoiser_from_network(schedule, network)
            labels = batch["labels"] if model.num_classes else None
            if guided and labels is not None:
                denoiser = guidance.classifier_free(
                    labelled,
                    labels,
                    numbers["guidance"],
                    model.num_classes,
                    guide_variance=as_reference,
                )
            else:
                denoiser = guidance.with_labels(labelled, labels)
            if not learned_variance:
                denoiser = guidance.fixed_variance(denoiser)
            if clip and as_reference:
                denoiser = guidance.clip_x0_alone(denoiser)
            elif clip:
                denoiser = guidance.clip_x0(schedule, denoiser)
            step = partial(SAMPLERS[sampler], schedule, denoiser, eta=numbers["eta"])
            image_keys = keys.per_example(numbers["key"], batch["index"])
            x0, film = sample(schedule, step, image_keys, shape, frames=frames)
            return x0, jnp.moveaxis(film, 0, 1)

        self._draw = parallel.spread(draw)

    @classmethod
    def from_config(cls, config: ConfigDict, *, batch_size: int, frames: int = 0) -> "Generator":
        """With a config's model and sampling settings; at most one frame a step."""
        schedule = configuration.make_schedules(config)[1]
        return cls(
            configuration.make_model(config),
            schedule,
            sampler=config.sampling.sampler,
            resolution=config.data.resolution,
            batch_size=batch_size,
            clip=config.sampling.clip,
            guided=config.sampling.guidance > 0,
            learned_variance=config.loss.kind != "simple",
            frames=min(frames, schedule.num_steps),
        )

    def __call__(
        self,
        params: PyTree,
        labels: Int[np.ndarray, "count"],
        *,
        seed: int,
        guidance_scale: float,
        eta: float,
        start: int = 0,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[HostImages, Film]:
        """One image for each label, and its frames; values about [-1, 1], not clipped.

        Image i depends on seed, i and its label alone, where i counts from start. labels: in 0 ..
        num_classes (the null class); only their number counts in a model without classes.
        guidance_scale: see `guidance.classifier_free`. progress: wraps the iteration over batches
        (tqdm, say).
        """
        count = len(labels)
        numbers = {
            "guidance": np.float32(guidance_scale),
            "eta": np.float32(eta),
            "key": keys.derive(seed, "sample"),
        }
        images, films = [], []
        for first in progress(range(0, count, self.batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.arange(first, first + self.batch_size, dtype=np.int32)
            batch = {"index": index + start, "labels": labels[np.minimum(index, count - 1)]}
            x0, film = self._draw(params, numbers, parallel.local_rows(batch))
            images.append(x0)
            films.append(film)
        return np.concatenate(images)[:count], np.concatenate(films)[:count]
