"""Checks of the values that a request gives to the page's inputs."""

import math
from typing import Any

import gradio as gr
from gradio.components import Component

from diffusion_jax.playground.uploads import Uploads

MOST_LABELS = 1000
LONGEST_LABEL = 200  # characters
MOST_LAYERS = 8


def checked(component: Component, value: Any, uploads: Uploads) -> Any:
    """Returns the part of a value that the page uses. Raises ValueError for other types.

    Ranges of numbers and choices of lists are checked by Gradio.
    """
    if isinstance(component, gr.State):
        return None  # is kept on the server
    if isinstance(component, gr.ImageEditor):
        return None if value is None else _editor(value, uploads)
    if isinstance(component, gr.Image):
        return None if value is None else _file(value, uploads)
    if isinstance(component, gr.Number | gr.Slider):
        valid = type(value) in (int, float) and math.isfinite(value)
        valid = valid or (value is None and isinstance(component, gr.Number))
    elif isinstance(component, gr.Dropdown) and component.multiselect:
        valid = isinstance(value, list) and len(value) <= MOST_LABELS
        valid = valid and all(isinstance(v, str) and len(v) <= LONGEST_LABEL for v in value)
    else:
        valid = isinstance(component, gr.Dropdown) and isinstance(value, str)
    if not valid:
        raise ValueError(f"{component.label}: unsupported value")
    return value


def _file(value: Any, uploads: Uploads) -> dict[str, Any]:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not uploads.has(path):
        raise ValueError("The file was not uploaded, or was deleted; upload it")
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _editor(value: Any, uploads: Uploads) -> dict[str, Any]:
    layers = value.get("layers") if isinstance(value, dict) else None
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise ValueError(f"The painting must have at most {MOST_LAYERS} layers")
    layers = [_file(layer, uploads) for layer in layers]
    return {"background": None, "layers": layers, "composite": None}
