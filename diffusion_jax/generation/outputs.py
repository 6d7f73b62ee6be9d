"""Output files of samples: grids, PNGs, an npz, and films of the denoising."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int

from diffusion_jax import images
from diffusion_jax.diffusion import checks
from diffusion_jax.files import npz
from diffusion_jax.generation.class_labels import file_name
from diffusion_jax.generation.upscaling import Upscaler, identity
from diffusion_jax.images import Uint8Images
from diffusion_jax.pictures import films
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.pictures.films import Frames

LARGEST_GRID = 1024  # images
LARGEST_FILM = 256  # images; all their frames are held in memory
ANIMATED, IN_STRIP = 50, 10  # frames of an animation, and columns of a strip


@dataclass(frozen=True)
class Samples:
    """Samples with their labels.

    Args:
        blocks: returns a new iterator over the images, a few at a time.
        labels: one label for each image.
        names: printable class names of the images; empty without classes.
        films: films of the states "x" and of the predicted "x0", where recorded.
    """

    blocks: Callable[[], Iterable[Uint8Images]]
    labels: Int[np.ndarray, "count"]
    names: Sequence[str] = ()
    films: Mapping[str, Frames] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.labels)

    def first(self, number: int) -> Uint8Images:
        """Returns the first images."""
        found = []
        for block in self.blocks():
            found.append(block[: number - sum(map(len, found))])
            if sum(map(len, found)) == number:
                break
        return np.concatenate(found)


@dataclass(frozen=True)
class OutputOptions:
    """Options of output files.

    Args:
        kinds: some of `KINDS`.
        film_of: some of `FILM_OF`: the states, the predictions, or both.
        frames: frames of a film; None for 50 in an animation and 10 in a strip.
        columns: columns of a grid; None for about a square.
        upscale: enlarges images in PNG files, but not in the npz; see `make_upscaler`.
        captions: True to show class names in image files.

    Raises:
        ValueError: a kind of file or of film is unknown.
    """

    kinds: Sequence[str] = ("grid",)
    film_of: Sequence[str] = ("x",)
    frames: int | None = None
    columns: int | None = None
    upscale: Upscaler = identity
    captions: bool = True

    def __post_init__(self):
        checks.check_bools(captions=self.captions)
        for flag, given, known in (
            ("save", self.kinds, KINDS),
            ("film_of", self.film_of, FILM_OF),
        ):
            if not given:
                raise ValueError(f"--{flag} is empty; known: {', '.join(known)}")
            if unknown := set(given) - set(known):
                raise ValueError(f"Unknown --{flag} {min(unknown)!r}; known: {', '.join(known)}")

    @property
    def film_frames(self) -> int:
        """Number of frames to record: 0 without films."""
        chosen = set(self.kinds)
        default = ANIMATED if chosen & {"gif", "webp"} else IN_STRIP if "strip" in chosen else 0
        return (self.frames or default) if default else 0

    def check_count(self, count: int) -> None:
        """Raises ValueError if there are too many images for a film."""
        if self.film_frames and count > LARGEST_FILM:
            kind = next(kind for kind in KINDS if kind in self.kinds and kind in FILMED)
            what = {"gif": "GIF", "webp": "WebP", "strip": "film strip"}[kind]
            raise ValueError(
                f"A {what} of {count} images is too large; choose --count up to {LARGEST_FILM}"
            )


def writers(options: OutputOptions) -> dict[str, Callable[[Path, Samples], None]]:
    """Returns the functions that write the chosen files, by file name."""
    chosen = {}
    for kind in KINDS:
        if kind not in options.kinds:
            continue
        name, write = KINDS[kind]
        if kind not in FILMED:
            chosen[name] = partial(write, options)
            continue
        stem, _, suffix = name.partition(".")
        for of in dict.fromkeys(options.film_of):
            film_name = name if of == "x" else f"{stem}_{of}.{suffix}"
            chosen[film_name] = partial(write, options, of)
    return chosen


def note(name: str, count: int) -> str:
    """Returns a note on the images that the file of this name leaves out, if any."""
    if name == KINDS["grid"][0] and count > LARGEST_GRID:
        return f"the first {LARGEST_GRID} of {count} images"
    return ""


def _grid(options: OutputOptions, path: Path, samples: Samples) -> None:
    first = samples.first(min(samples.count, LARGEST_GRID))
    captions, columns = _captions(options, samples, len(first)), _columns(options, len(first))
    images.save_png(path, captioned_grid(options.upscale(first), captions, columns))


def _pngs(options: OutputOptions, path: Path, samples: Samples) -> None:
    path.mkdir(exist_ok=True)
    names = samples.names or [""] * samples.count
    every = chain.from_iterable(map(options.upscale, samples.blocks()))
    for index, (image, label, name) in enumerate(zip(every, samples.labels.tolist(), names)):
        images.save_png(path / file_name(index, label, name), image)


def _npz(options: OutputOptions, path: Path, samples: Samples) -> None:
    """Writes ADM's format: the images in arr_0, their labels in arr_1."""
    labels = (samples.count, [samples.labels])
    npz.write_blocks(path, {"arr_0": (samples.count, samples.blocks()), "arr_1": labels})


def _animation(
    save: Callable, options: OutputOptions, of: str, path: Path, samples: Samples
) -> None:
    captions, columns = _captions(options, samples, samples.count), _columns(options, samples.count)
    save(path, films.animation(options.upscale(samples.films[of]), captions, columns))


def _strip(options: OutputOptions, of: str, path: Path, samples: Samples) -> None:
    captions = _captions(options, samples, samples.count)
    columns = options.frames or IN_STRIP
    strip = films.strip(options.upscale(samples.films[of]), captions, columns)
    images.save_png(path, strip)


def _captions(options: OutputOptions, samples: Samples, count: int) -> list[str]:
    return list(samples.names[:count]) if options.captions else []


def _columns(options: OutputOptions, count: int) -> int:
    return options.columns or int(np.ceil(np.sqrt(count)))


# Names and writers of the kinds of files; films are written once for each of `film_of`.
KINDS = {
    "grid": ("grid.png", _grid),
    "png": ("png", _pngs),
    "npz": ("samples.npz", _npz),
    "gif": ("denoising.gif", partial(_animation, images.save_gif)),
    "webp": ("denoising.webp", partial(_animation, images.save_webp)),
    "strip": ("strip.png", _strip),
}
FILMED = ("gif", "webp", "strip")
FILM_OF = ("x", "x0")
