"""What a run was trained on: what the workdir records, and some images if they are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.data.cache import DESCRIPTION, CachedSource
from diffusion_jax.data.sources import default_data_dir
from diffusion_jax.files import json_files
from diffusion_jax.report.embedded import Embedded, embed_picture
from diffusion_jax.runs import datasets

DECODED = ("folder", "tfds")  # kinds of data that are decoded into a cache on first use


@dataclass(frozen=True)
class DataReport:
    """recorded: dataset.json. picture: of training images. note: why there is none, or a doubt."""

    recorded: Mapping[str, Any] = field(default_factory=dict)
    picture: Embedded | None = None
    note: str = ""


def read(workdir: Path, config: ConfigDict, most_bytes: int) -> DataReport:
    """Whatever happens to the data, there is a report; nothing is decoded for it."""
    recorded = recorded_in(workdir)
    try:
        dataset = _open(config, recorded.get("fingerprint", ""))
        picture = embed_picture(datasets.examples(dataset), most_bytes)
    except Exception as error:  # of any library that reads data, on a machine that may lack it
        why = " ".join(str(error).split()) or type(error).__name__
        return DataReport(recorded, note=f"The images cannot be read here: {why}")
    found = dataset.source.description.fingerprint
    changed = recorded.get("fingerprint") not in (None, found)
    note = f"The images here are others, of fingerprint {found}." if changed else ""
    return DataReport(recorded, picture, note)


def recorded_in(workdir: Path) -> dict[str, Any]:
    """dataset.json, or nothing if it cannot be read."""
    try:
        recorded = json_files.read(workdir / "dataset.json")
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _open(config: ConfigDict, fingerprint: str) -> datasets.Dataset:
    """The training data. Raises FileNotFoundError if it would have to be decoded first."""
    kind = config.data.name.partition(":")[0]
    if kind not in DECODED:
        with config.unlocked():
            config.data.load_into_memory = False  # a few images are enough
        return datasets.of_config(config)
    cache = Path(
        config.data.cache_dir or Path(config.data.data_dir or default_data_dir()) / "cache"
    )
    for path in sorted(cache.expanduser().glob(f"*/{DESCRIPTION}")):
        if json_files.read_object(path, remedy="delete it").get("fingerprint") == fingerprint:
            source = CachedSource(path.parent)
            squares = partial(build.read_squares, config, source)
            return datasets.Dataset(source, squares, source.description.provenance())
    raise FileNotFoundError(f"they are not decoded in {cache}")
