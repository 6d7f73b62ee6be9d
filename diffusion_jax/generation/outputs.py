"""Files of drawn images: grids, PNGs, an npz, and films of the denoising."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int

from diffusion_jax import images
from diffusion_jax.files import npz
from diffusion_jax.generation.class_labels import file_name
from diffusion_jax.generation.upscaling import Upscaler, unchanged
from diffusion_jax.images import Uint8Images
from diffusion_jax.pictures import films
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.pictures.films import Frames

LARGEST_GRID = 1024  # images
LARGEST_FILM = 256  # images; all their frames are held in memory
ANIMATED, IN_STRIP = 50, 10  # frames of an animation, and columns of a strip


@dataclass(frozen=True)
class Drawn:
    """Drawn images. blocks: yields them a few at a time, as often as it is called.

    names: of the classes of all images, such as can be drawn; none if the model has no classes.
    films: of the states "x" and of the predicted "x0", as far as they were asked for.
    """

    blocks: Callable[[], Iterable[Uint8Images]]
    labels: Int[np.ndarray, "count"]
    names: Sequence[str] = ()
    films: Mapping[str, Frames] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.labels)

    def first(self, number: int) -> Uint8Images:
        """The first images."""
        shown = []
        for block in self.blocks():
            shown.append(block[: number - sum(map(len, shown))])
            if sum(map(len, shown)) == number:
                break
        return np.concatenate(shown)


@dataclass(frozen=True)
class Choice:
    """What to write, and how. Raises ValueError for a kind of file that there is not.

    kinds: some of `KINDS`. film_of: "x" (the states), "x0" (the predictions) or both. frames: of a
    film; None is 50 for an animation and 10 for a strip. columns: of a grid; None is a square.
    upscale: enlarges the images of pictures, see `make_upscaler`; the npz keeps them as they are.
    captions: whether pictures show the names of classes.
    """

    kinds: Sequence[str] = ("grid",)
    film_of: Sequence[str] = ("x",)
    frames: int | None = None
    columns: int | None = None
    upscale: Upscaler = unchanged
    captions: bool = True

    def __post_init__(self):
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
        """How many frames to draw: none if nothing needs them."""
        chosen = set(self.kinds)
        default = ANIMATED if chosen & {"gif", "webp"} else IN_STRIP if "strip" in chosen else 0
        return (self.frames or default) if default else 0

    def check_count(self, count: int) -> None:
        """Raises ValueError if films of so many images were asked for."""
        if self.film_frames and count > LARGEST_FILM:
            kind = next(kind for kind in KINDS if kind in self.kinds and kind in FILMED)
            what = {"gif": "GIF", "webp": "WebP", "strip": "film strip"}[kind]
            raise ValueError(f"A {what} of {count} images; choose --count up to {LARGEST_FILM}")


def files(choice: Choice) -> dict[str, Callable[[Path, Drawn], None]]:
    """By file name, the function that writes what was chosen."""
    chosen = {}
    for kind in KINDS:
        if kind not in choice.kinds:
            continue
        name, write = KINDS[kind]
        if kind not in FILMED:
            chosen[name] = partial(write, choice)
            continue
        stem, _, suffix = name.partition(".")
        for of in dict.fromkeys(choice.film_of):
            film_name = name if of == "x" else f"{stem}_{of}.{suffix}"
            chosen[film_name] = partial(write, choice, of)
    return chosen


def note(name: str, count: int) -> str:
    """What the file of this name leaves out, to be said when it has been written."""
    if name == KINDS["grid"][0] and count > LARGEST_GRID:
        return f"the first {LARGEST_GRID} of {count} images"
    return ""


def _grid(choice: Choice, path: Path, drawn: Drawn) -> None:
    shown = drawn.first(min(drawn.count, LARGEST_GRID))
    captions, columns = _captions(choice, drawn, len(shown)), _columns(choice, len(shown))
    images.save_png(path, captioned_grid(choice.upscale(shown), captions, columns))


def _pngs(choice: Choice, path: Path, drawn: Drawn) -> None:
    path.mkdir(exist_ok=True)
    names = drawn.names or [""] * drawn.count
    every = chain.from_iterable(map(choice.upscale, drawn.blocks()))
    for index, (image, label, name) in enumerate(zip(every, drawn.labels.tolist(), names)):
        images.save_png(path / file_name(index, label, name), image)


def _npz(choice: Choice, path: Path, drawn: Drawn) -> None:
    """As ADM writes it: arr_0 has the images, arr_1 their labels."""
    labels = (drawn.count, [drawn.labels])
    npz.write_blocks(path, {"arr_0": (drawn.count, drawn.blocks()), "arr_1": labels})


def _animation(save: Callable, choice: Choice, of: str, path: Path, drawn: Drawn) -> None:
    captions, columns = _captions(choice, drawn, drawn.count), _columns(choice, drawn.count)
    save(path, films.animation(choice.upscale(drawn.films[of]), captions, columns))


def _strip(choice: Choice, of: str, path: Path, drawn: Drawn) -> None:
    captions = _captions(choice, drawn, drawn.count)
    columns = choice.frames or IN_STRIP
    picture = films.strip(choice.upscale(drawn.films[of]), captions, columns)
    images.save_png(path, picture)


def _captions(choice: Choice, drawn: Drawn, count: int) -> list[str]:
    return list(drawn.names[:count]) if choice.captions else []


def _columns(choice: Choice, count: int) -> int:
    return choice.columns or int(np.ceil(np.sqrt(count)))


# Kinds of files, with their names; those of films are written once for each `film_of`.
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
