"""What a config may hold, checked before data or devices are touched."""

import inspect
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.data import crops, folder, make_source
from diffusion_jax.diffusion.losses import LOSSES
from diffusion_jax.diffusion.schedules import make_schedule
from diffusion_jax.models import UNet
from diffusion_jax.models.embeddings import (
    TIME_EMBEDDINGS,
    reference_frequencies,
    time_embedding_kind,
)
from diffusion_jax.models.layers import quarter_groups
from diffusion_jax.models.unet import parse_blocks
from diffusion_jax.runs.configuration import OF_THE_PIPELINE, flatten, make_schedules
from diffusion_jax.sampling import SAMPLERS
from diffusion_jax.training.optimizers import adamw


def _arguments(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {"parent", "name"}


SECTIONS = {
    "data": (_arguments(make_source) | {"name", *OF_THE_PIPELINE}) - {"channels", "num_classes"},
    "model": _arguments(UNet),
    "schedule": _arguments(make_schedule) | {"name"},
    "loss": {"kind", "vlb_weight"},
    "optimizer": _arguments(adamw),
    "sampling": {"sampler", "steps", "stride", "spacing", "eta", "guidance", "clip"}
    | {"grid_rows", "grid_columns"},
}
TOP = {"behaviour", "seed", "batch_size", "micro_batches", "steps", "label_dropout", "ema_decay"}
TOP |= {"log_every", "sample_every", "checkpoint_every", "keep_latest", "keep_every"}

# (names, test, what the value must be)
RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("behaviour", lambda v: v in ("corrected", "reference"), "corrected or reference"),
    (
        "model.time_embedding",
        lambda v: v in TIME_EMBEDDINGS,
        f"one of {', '.join(TIME_EMBEDDINGS)}",
    ),
    ("sampling.sampler", lambda v: v in SAMPLERS, f"one of {', '.join(SAMPLERS)}"),
    ("data.crop", lambda v: v in crops.KNOWN, f"one of {', '.join(crops.KNOWN)}"),
    ("data.labels", lambda v: v in folder.LABELS, f"one of {', '.join(folder.LABELS)}"),
    ("data.smallest_crop", lambda v: 0 < v <= 1, "above 0, up to 1"),
    ("model.dtype", lambda v: v in ("float32", "bfloat16"), "float32 or bfloat16"),
    ("loss.kind", lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}"),
    ("seed", lambda v: 0 <= v < 2**32, "in [0, 2^32)"),
    ("schedule.num_steps", lambda v: v >= 2, "at least 2"),
    ("optimizer.learning_rate optimizer.eps", lambda v: v > 0, "positive"),
    (
        "label_dropout ema_decay model.dropout optimizer.b1 optimizer.b2",
        lambda v: 0 <= v < 1,
        "in [0, 1)",
    ),
    (
        "batch_size micro_batches steps log_every sample_every checkpoint_every keep_latest "
        "data.resolution data.threads model.channels model.width model.levels model.time_dim "
        "model.label_dim model.window model.num_heads sampling.grid_rows sampling.grid_columns",
        lambda v: v >= 1,
        "at least 1",
    ),
    (
        "keep_every model.growth model.num_classes loss.vlb_weight sampling.guidance "
        "sampling.stride sampling.eta optimizer.warmup_steps optimizer.decay_steps "
        "optimizer.clip_norm optimizer.weight_decay data.shorter_side",
        lambda v: v >= 0,
        "at least 0",
    ),
]


def validate(config: ConfigDict) -> None:
    """Raises ValueError for the first mistake in the config."""
    _same_keys("config", config, TOP | SECTIONS.keys())
    for section, known in SECTIONS.items():
        _same_keys(f"config.{section}", config[section], known)
    values = flatten(config)
    for names, holds, wanted in RULES:
        for name in names.split():
            if not _holds(holds, values[name]):
                raise ValueError(f"{name}={values[name]} must be {wanted}")
    _check_model(config)
    if 0 < config.data.shorter_side < config.data.resolution:
        raise ValueError(
            f"data.shorter_side={config.data.shorter_side} is less than "
            f"data.resolution={config.data.resolution}"
        )
    if config.batch_size % config.micro_batches:
        raise ValueError(
            f"batch_size={config.batch_size} is not divisible by "
            f"micro_batches={config.micro_batches}"
        )
    if config.model.num_classes and config.sampling.guidance > 0 and not config.label_dropout:
        raise ValueError(
            f"sampling.guidance={config.sampling.guidance} needs the null class, which "
            "label_dropout=0 does not train; set sampling.guidance=0 or label_dropout=0.1, say"
        )
    sampling = config.sampling
    if sampling.eta > 1 and sampling.sampler != "reference":
        raise ValueError(
            f"sampling.eta={sampling.eta} must be in [0, 1]; only sampling.sampler=reference takes "
            "more"
        )
    warmup, decay = config.optimizer.warmup_steps, config.optimizer.decay_steps
    if decay and warmup >= decay:
        raise ValueError(
            f"optimizer.warmup_steps={warmup} must be less than optimizer.decay_steps={decay}"
        )
    # Building them is cheap, and they know their own limits.
    make_schedules(config)


def _check_model(config: ConfigDict) -> None:
    model, resolution = config.model, config.data.resolution
    blocks = parse_blocks(model.blocks)
    if not model.num_classes and "clsAtn" in blocks:
        raise ValueError(
            f"model.blocks={model.blocks!r} has the block 'clsAtn', which needs classes, but "
            "model.num_classes is 0; drop the block or set the number of classes"
        )
    _check_groups(config)
    kind = time_embedding_kind(model.time_embedding, model.behaviour)
    if kind == "standard" and model.time_dim % 2:
        raise ValueError(f"model.time_dim={model.time_dim} is not even (sine and cosine halves)")
    if kind != "standard":
        reference_frequencies(model.time_dim)  # knows its own limit
    if resolution % 2**model.levels:
        raise ValueError(
            f"data.resolution={resolution} is not divisible by 2^model.levels = {2**model.levels}; "
            "lower model.levels or choose another resolution"
        )
    for level in range(model.levels + 1):
        side = resolution // 2**level
        if "atn" in blocks and side > model.window and side % model.window:
            raise ValueError(
                f"The block 'atn' cuts maps of {side}x{side} (level {level}) into squares of "
                f"model.window={model.window}, which does not divide them"
            )


def _check_groups(config: ConfigDict) -> None:
    """Some blocks' norms cut the channels into groups of four, which must come out even."""
    model = config.model
    blocks, image = parse_blocks(model.blocks), model.channels
    widths = [model.width * 2 ** (model.growth * level) for level in range(model.levels + 1)]
    ways = [*pairwise(widths), (widths[-1], widths[-1]), (widths[0], widths[0])]
    ways += [(2 * lower, upper) for upper, lower in pairwise(widths)]
    ways.append((widths[0], 2 * image))
    counts = {image}  # of the two heads
    for before, after in ways:
        places = zip(blocks, (before, *[after] * len(blocks)))
        counts |= {count for block, count in places if block in ("conv", "clsAtn", "atn")}
    for count in sorted(counts):
        if count % quarter_groups(count):
            raise ValueError(
                f"model.width={model.width} and model.channels={image} give a layer of {count} "
                f"channels, which {model.blocks} cannot cut into {quarter_groups(count)} equal "
                "groups; take a width that is a multiple of 4"
            )


def _same_keys(where: str, section: ConfigDict, known: Iterable[str]) -> None:
    if not isinstance(section, ConfigDict):
        raise ValueError(f"{where}={section} must be a section; start from configs/base.py")
    given, known = set(section.keys()), set(known)
    if unknown := given - known:
        names = ", ".join(sorted(known))
        raise ValueError(f"Unknown key {where}.{min(unknown)}; known keys: {names}")
    if missing := known - given:
        raise ValueError(f"{where}.{min(missing)} is missing; start from configs/base.py")


def _holds(test: Callable[[Any], bool], value: Any) -> bool:
    try:
        return test(value)
    except TypeError:  # a text where a number belongs
        return False
