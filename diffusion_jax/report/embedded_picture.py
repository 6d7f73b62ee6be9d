"""Pictures as data URIs of limited size."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from diffusion_jax.images import Picture, to_pil

LONGEST_SIDE = 1600  # pixels


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture inside a page. change: how its size was reduced, in words; "" if unchanged."""

    uri: str
    width: int
    height: int
    change: str = ""


def embed_file(path: Path, most_bytes: int) -> EmbeddedPicture:
    """Embeds the picture in a file. Raises ValueError if it cannot be read."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.format == "PNG" and len(content) <= most_bytes and _fits(image):
                return EmbeddedPicture(_uri(content, "png"), *image.size)
            return embed(image, most_bytes)
    except UnidentifiedImageError:
        raise ValueError(f"{path.name} cannot be read as a picture: unknown format") from None
    except Exception as error:  # Pillow's decoders raise almost anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path.name} cannot be read as a picture: {reason}") from None


def embed_picture(picture: Picture, most_bytes: int) -> EmbeddedPicture:
    """Embeds an array, see `embed`."""
    return embed(to_pil(picture), most_bytes)


def embed(image: Image.Image, most_bytes: int) -> EmbeddedPicture:
    """Embeds a picture as PNG; if that is too large, as WebP, halved until it is small enough."""
    before, changes = image.size, []
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if not _fits(image):
        image = image.copy()
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    content, kind = _encoded(image, "PNG"), "png"
    if len(content) > most_bytes:
        content, kind = _encoded(image, "WEBP", quality=85), "webp"
        changes.append("compressed")
    while len(content) > most_bytes and max(image.size) > 64:
        image = image.reduce(2)
        content = _encoded(image, "WEBP", quality=85)
    if image.size != before:
        changes.append(f"scaled down from {before[0]}x{before[1]} pixels")
    return EmbeddedPicture(_uri(content, kind), *image.size, " and ".join(changes))


def _fits(image: Image.Image) -> bool:
    return max(image.size) <= LONGEST_SIDE


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
