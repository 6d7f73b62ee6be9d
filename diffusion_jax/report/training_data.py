"""The training data of a run: its record in the workdir, and some images if they can be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.data.cache import DESCRIPTION, CachedSource
from diffusion_jax.data.sources import default_data_dir
from diffusion_jax.files import json_files
from diffusion_jax.files.paths import local_path
from diffusion_jax.report.embedded_picture import EmbeddedPicture, embed_picture
from diffusion_jax.runs import datasets

DECODED = ("folder", "tfds")  # kinds of data that training decodes into a cache first


@dataclass(frozen=True)
class TrainingData:
    """The training data. record: dataset.json. note: why there is no picture, or a warning."""

    record: Mapping[str, Any] = field(default_factory=dict)
    picture: EmbeddedPicture | None = None
    note: str = ""


def read(workdir: Path, config: ConfigDict, most_bytes: int) -> TrainingData:
    """Reads the record and some images. Data that has not been decoded yet is not opened.

    An error of the data becomes a note.
    """
    record = read_record(workdir)
    try:
        dataset = _open(config, record.get("fingerprint", ""))
        picture = embed_picture(datasets.examples(dataset), most_bytes)
    except Exception as error:  # any error of the libraries that read data
        why = " ".join(str(error).split()) or type(error).__name__
        return TrainingData(record, note=f"The images cannot be read here: {why}")
    found = dataset.source.description.fingerprint
    changed = record.get("fingerprint") not in (None, found)
    note = (
        f"The images here differ from the training data: their fingerprint is {found}."
        if changed
        else ""
    )
    return TrainingData(record, picture, note)


def read_record(workdir: Path) -> dict[str, Any]:
    """Returns the contents of dataset.json; nothing if it cannot be read."""
    try:
        record = json_files.read(workdir / "dataset.json")
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _open(config: ConfigDict, fingerprint: str) -> datasets.Dataset:
    """Opens the training data. Raises FileNotFoundError if it has not been decoded yet."""
    kind = config.data.name.partition(":")[0]
    if kind not in DECODED:
        with config.unlocked():
            config.data.load_into_memory = False  # a few images are enough
        return datasets.from_config(config)
    cache = Path(
        config.data.cache_dir or Path(config.data.data_dir or default_data_dir()) / "cache"
    )
    for path in sorted(local_path(cache).glob(f"*/{DESCRIPTION}")):
        if json_files.read_object(path, remedy="delete it").get("fingerprint") == fingerprint:
            source = CachedSource(path.parent)
            squares = partial(datasets.read_images, config, source)
            return datasets.Dataset(source, squares, source.description.provenance())
    raise FileNotFoundError(f"they have not been decoded to {cache}")
