"""What the playground does with a run: settings in, pictures out. The page is in the scripts."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from diffusion_jax import images
from diffusion_jax.config import build, overrides
from diffusion_jax.generation import class_labels as class_labels
from diffusion_jax.generation import edit_files, guidance_models
from diffusion_jax.generation.editing import Editor
from diffusion_jax.images import Picture, Uint8Images
from diffusion_jax.pictures import films
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs.run import Run, at_each_call

LARGEST_COUNT = 64
MOST_STEPS = 1000  # or as many as the run itself has, if that is more
LARGEST_SEED = 2**32 - 1
LONGEST_SIDE = 4096  # pixels of a picture that is given
FRAMES = 16  # of a film, at most
FILM_VALUES = 2**26  # numbers in a film, at most: 256 MB each of states and predictions
WIDTH = 640  # pixels that a picture is about as wide as


@dataclass(frozen=True)
class Settings:
    """What is to be drawn. labels: as `scripts.sample` has them; the others: see `Run.sample`."""

    labels: str
    count: int
    seed: int
    solver: str
    steps: int
    guidance: float


@dataclass(frozen=True)
class Drawn:
    """Images, and a picture of all of them: as they are, and on the way from noise to there."""

    images: Gallery
    picture: Picture
    frames: list[Picture]


def own(run: Run) -> Settings:
    """The settings of the run itself. Raises ValueError if it draws nothing, being a classifier."""
    if build.make_model(run.config).classifies:
        raise ValueError(
            f"A run of model.name={run.config.model.name} draws no images; it guides another run"
        )
    used = overrides.in_use(run.config)
    return Settings("random", 8, 0, used["solver"], used["steps"], used["guidance"])


def enlarges(run: Run) -> bool:
    """Whether the model makes large images of small ones, and can do nothing else."""
    return build.make_model(run.config).image_conditioned


def classes(run: Run) -> tuple[int, list[str]]:
    """(number, names) of the classes that can be asked for."""
    return guidance_models.classes_of(run.config, run.class_names)


def is_guided(run: Run) -> bool:
    """Whether a scale of guidance does anything."""
    return bool(run.config.model.num_classes or run.config.sampling.autoguidance)


def changes(run: Run, wanted: Settings) -> dict[str, Any]:
    """The settings of sampling that differ from the run's own. Raises ValueError over a limit."""
    mine = own(run)
    for name, least, most in (
        ("count", 1, LARGEST_COUNT),
        ("seed", 0, LARGEST_SEED),
        ("steps", 1, max(MOST_STEPS, mine.steps)),
    ):
        if not least <= getattr(wanted, name) <= most:
            raise ValueError(f"{name}={getattr(wanted, name)} must be from {least} to {most}")
    names = ("solver", "steps", "guidance")
    return {n: getattr(wanted, n) for n in names if getattr(wanted, n) != getattr(mine, n)}


def described(run: Run, wanted: Settings) -> str:
    """The settings in a line for people."""
    parts = [wanted.labels] if classes(run)[0] else []
    parts += [f"seed {wanted.seed}", f"{wanted.solver}, {wanted.steps} steps"]
    return " · ".join(parts + ([f"guidance {wanted.guidance:g}"] if is_guided(run) else []))


def call(run: Run, wanted: Settings) -> str:
    """The line of Python that draws the same images."""
    given = [repr(wanted.labels)] if wanted.labels != "random" else []
    others = {"count": wanted.count, "seed": wanted.seed, **changes(run, wanted)}
    given += [f"{key}={value!r}" for key, value in others.items()]
    return f"diffusion_jax.load({str(run.workdir)!r}).sample({', '.join(given)})"


def draw(
    run: Run, wanted: Settings, watch: Callable[[int, int, Picture], None] | None = None
) -> Drawn:
    """The images of `run.sample`, and the film of what the network takes them for on the way.

    watch: is told (number from 1, number of frames, frame) as soon as a frame is there.
    """
    config = run.configured(changes(run, wanted))
    chosen = run.labels(wanted.labels, wanted.count, seed=wanted.seed)
    values = wanted.count * config.data.resolution**2 * config.model.channels
    frames = max(1, min(FRAMES, FILM_VALUES // values))
    generator = run.generator(config, len(chosen), frames=frames, watched=watch is not None)
    captions = class_labels.captions(chosen, *classes(run))
    columns, upscale = layout(len(chosen), config.data.resolution)
    given = at_each_call(config)
    count = min(frames, given["path"].num_steps)
    rows: list[dict[int, np.ndarray]] = [{} for _ in range(count)]  # of each frame, by image
    one_at_a_time, seen = threading.Lock(), 0

    def see(examples: np.ndarray, number: int, predicted: np.ndarray) -> None:
        """Devices tell of their own images, in any order."""
        nonlocal seen
        with one_at_a_time:
            known = zip(examples.tolist(), predicted)
            rows[number] |= {i: row for i, row in known if i < len(chosen)}
            while seen < count and len(rows[seen]) == len(chosen):
                found = np.stack([rows[seen][i] for i in range(len(chosen))])
                found = images.to_uint8(np.nan_to_num(found))
                seen += 1
                watch(seen, count, captioned_grid(found, captions, columns, upscale=upscale))

    drawn, shots = generator(
        run.params,
        chosen,
        seed=wanted.seed,
        watch=see if watch else None,
        **given,
    )
    pixels = run.pictures(drawn, config)
    picture = captioned_grid(np.asarray(pixels), captions, columns, upscale=upscale)
    predicted = images.to_uint8(np.nan_to_num(shots.x0))
    return Drawn(pixels, picture, films.animation(predicted, captions, columns, upscale=upscale))


def square(run: Run, path: Path) -> Uint8Images:
    """A file's central square as the one image that the run's model takes, of its size.

    Raises ValueError if it is too large, or cannot be read.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
    except Exception:  # Pillow raises almost anything
        raise ValueError(f"{path.name} is no picture that can be read") from None
    if max(width, height) > LONGEST_SIDE:
        raise ValueError(
            f"{path.name} has {width} x {height} pixels; up to {LONGEST_SIDE} a side are taken"
        )
    side = run.config.model.low_resolution if enlarges(run) else run.config.data.resolution
    try:
        return images.to_uint8(edit_files.read_images([path], run.config, size=side))
    except ValueError as error:
        raise ValueError(str(error).replace(f"{path.parent}/", "")) from None


def mask_of(
    run: Run, layers: Sequence[UInt8[np.ndarray, "height width 4"]]
) -> Bool[np.ndarray, "side side"]:
    """Where RGBA layers over an enlarged image are painted, in at least half of a pixel of it."""
    side = run.config.data.resolution
    painted = np.zeros((side, side), bool)
    for layer in layers:
        opaque = Image.fromarray(np.ascontiguousarray(layer[..., 3]))
        painted |= np.asarray(opaque.resize((side, side), Image.Resampling.BOX)) >= 128
    if not painted.any():
        raise ValueError("Nothing is painted; paint over what is to be drawn anew")
    return painted


def inpaint(
    run: Run,
    image: Uint8Images,
    mask: Bool[np.ndarray, "side side"],
    wanted: Settings,
    *,
    resample: int,
) -> Gallery:
    """`wanted.count` completions of an image, whose pixels in the mask are drawn anew."""
    if not 1 <= resample <= 20:
        raise ValueError(f"resample={resample} must be from 1 to 20")
    jump = min(10, max(1, wanted.steps - 1))  # RePaint's, unless there are fewer steps
    how = {"resample": resample, "jump": jump, **_edit(run, wanted)}
    return run.edit.inpaint(image, mask, wanted.labels, **how)


def image_to_image(run: Run, image: Uint8Images, wanted: Settings, *, strength: float) -> Gallery:
    """`wanted.count` images that are made from one."""
    return run.edit.image_to_image(image, wanted.labels, strength=strength, **_edit(run, wanted))


def enlarge(run: Run, image: Uint8Images, wanted: Settings) -> Gallery:
    """`wanted.count` large images for a small one."""
    return run.edit.enlarge(image, wanted.labels, **_edit(run, wanted))


def between_images(
    run: Run, ends: tuple[Uint8Images, Uint8Images], labels: tuple[str, str], wanted: Settings
) -> Gallery:
    """`wanted.count` images on the way between two, which are inverted. labels: one for each."""
    told = _ends(run, labels, (wanted.seed, wanted.seed)).tolist() if classes(run)[0] else "none"
    return run.edit.interpolate(*ends, told, **_edit(run, wanted))


def between_seeds(
    run: Run, seeds: tuple[int, int], labels: tuple[str, str], wanted: Settings
) -> Gallery:
    """`wanted.count` images from noises between the first ones of two seeds.

    With a solver that adds no noise, the ends are what `draw` draws with these seeds.
    """
    config = run.configured(changes(run, wanted))
    told = _ends(run, labels, seeds)
    generator = run.editing_generator(config, wanted.count)
    first, second = (generator.starts(1, seed=seed) for seed in seeds)
    nearer = told[np.arange(wanted.count) * 2 // wanted.count]
    editor = Editor(generator, run.params, generator)
    drawn = editor.interpolate(first, second, nearer, seed=wanted.seed, inverted=False)
    return run.pictures(drawn, config)


def grid(pictures: np.ndarray) -> Picture:
    """Images as one picture, in which each pixel is a square."""
    columns, upscale = layout(len(pictures), pictures.shape[1])
    return images.grid(np.asarray(pictures), columns, upscale=upscale)


def large(image: Picture) -> UInt8[np.ndarray, "rows columns channels"]:
    """One image in about `WIDTH`, in which each pixel is a square."""
    factor = max(1, WIDTH // image.shape[0])
    return np.asarray(image).repeat(factor, axis=0).repeat(factor, axis=1)


def layout(count: int, side: int) -> tuple[int, int]:
    """(columns, enlargement) of a grid: at least as wide as high, with few places left empty."""
    least = math.ceil(math.sqrt(count))
    columns = min(range(least, 2 * least), key=lambda columns: -count % columns)
    return columns, max(1, WIDTH // (side * columns))


def _edit(run: Run, wanted: Settings) -> dict[str, Any]:
    return {"count": wanted.count, "seed": wanted.seed, **changes(run, wanted)}


def _ends(run: Run, labels: tuple[str, str], seeds: tuple[int, int]) -> Int[np.ndarray, "2"]:
    pairs = zip(labels, seeds)
    return np.concatenate([run.labels(text, 1, seed=seed) for text, seed in pairs])
