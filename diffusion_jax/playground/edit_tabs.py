"""Tabs that edit a picture: inpaint, image to image, enlarge."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax.images import to_pil
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.playground import components, pictures, sampling
from diffusion_jax.playground.components import Components, on_click, one_line_errors
from diffusion_jax.runs.run import Run

JUMP = 10  # steps between resamplings, as in RePaint
MOST_WORK = components.LARGEST_COUNT * components.MOST_STEPS  # steps of all images of a request


def inpaint_tab(run: Run, settings: Components, sampled: gr.State) -> None:
    """Samples the painted pixels again. sampled: the images of the tab Sample."""
    with gr.Row():
        with gr.Column():
            file = _picture_input(sampled)
            resample = gr.Slider(1, 20, 1, step=1, label="Resample: more fits the rest better")
            original = components.picture("Original", height=300)
        with gr.Column():
            editor = gr.ImageEditor(
                label="Paint here",
                type="numpy",
                format="png",
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(default_size=60, colors=["#ff7a00"], color_mode="fixed"),
                buttons=[],
                elem_classes="pixels",
                elem_id="editor",
                height=560,
            )
            # Gradio would decode layers of any size; `pictures.painted_mask` checks the size.
            editor.preprocess = lambda payload: (  # pyright: ignore[reportAttributeAccessIssue]
                [layer.path for layer in payload.layers] if payload else []
            )
            button = gr.Button("Inpaint", variant="primary", elem_id="inpaint")
    result = components.picture("Results", name="inpainted")
    image = gr.State(None)

    @one_line_errors()
    def prepare(file: str | None) -> tuple[Any, Any, Any]:
        if file is None:
            return None, None, None
        square = pictures.read_square(run, file)
        picture = pictures.enlarged(square[0]).convert("RGB")
        return picture, {"background": picture, "layers": [], "composite": None}, square

    def inpaint(wanted: dict[str, Any], image: Any, layers: list[str], times: int) -> Iterator[Any]:
        if image is None:
            raise ValueError("The picture is missing; upload one, or use a sampled image")
        work = wanted["count"] * wanted["steps"] * int(times)
        if work > MOST_WORK:
            raise ValueError(
                f"Images x steps x resample is {work:,}; at most {MOST_WORK:,} are allowed"
            )
        mask = pictures.painted_mask(run, layers)
        jump = min(JUMP, max(1, wanted["steps"] - 1))
        arguments = _edit_arguments(run, wanted) | {"resample": int(times), "jump": jump}
        edits = sampling.edits(run, wanted["count"])
        yield _result(run, edits.inpaint(image, mask, **arguments), wanted)

    file.change(prepare, file, [original, editor, image], **components.LIGHT)
    inputs = [image, editor, resample]
    on_click(button, inpaint, inputs, [result], settings=settings, progress=result)


def edit_tab(
    run: Run,
    settings: Components,
    sampled: gr.State | None,
    verb: str,
    edit: str,
    **options: gr.Slider,
) -> None:
    """Edits a picture. sampled: see `inpaint_tab`; None: files only.

    edit: name of a method of `RunEdits`.
    options: inputs for further arguments of the method, not rendered yet.
    """
    with gr.Row():
        with gr.Column():
            file = (
                components.file_input("A picture") if sampled is None else _picture_input(sampled)
            )
            for option in options.values():
                option.render()
            button = gr.Button(verb, variant="primary", elem_id=verb.lower())
        with gr.Column():
            original = components.picture("Original")
    result = components.picture("Results")

    def call(wanted: dict[str, Any], file: str | None, *values: Any) -> Iterator[tuple]:
        if file is None:
            raise ValueError("The picture is missing; upload one")
        image = pictures.read_square(run, file)
        method = getattr(sampling.edits(run, wanted["count"]), edit)
        found = method(image, **dict(zip(options, values)), **_edit_arguments(run, wanted))
        yield pictures.enlarged(image[0]), _result(run, found, wanted)

    inputs, outputs = [file, *options.values()], [original, result]
    on_click(button, call, inputs, outputs, settings=settings, progress=result)


def _picture_input(sampled: gr.State) -> gr.Image:
    """Returns an input for a picture: an image file, or one of the sampled images."""
    file = components.file_input("A picture")
    with gr.Row():
        number = gr.Number(1, label="Sampled image", precision=0, minimum=1)
        button = gr.Button("Use it", elem_classes="take")

    @one_line_errors()
    def use(images: np.ndarray | None, number: int | None) -> Any:
        if images is None:
            raise ValueError("No images have been sampled yet; sample some first")
        if number is None or not 1 <= number <= len(images):
            raise ValueError(f"There is no image {number}; choose from 1 to {len(images)}")
        return to_pil(images[number - 1])  # not enlarged, so that its pixels come back exactly

    button.click(use, [sampled, number], file, **components.LIGHT)
    return file


def _edit_arguments(run: Run, wanted: dict[str, Any]) -> dict[str, Any]:
    return sampling.arguments(run, wanted | {"labels": wanted["labels"] or "none"})


def _result(run: Run, found: Gallery, wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns an update of a picture: the results, and the settings as its label."""
    about = sampling.description(run, wanted | {"labels": wanted["labels"] or "none"})
    return gr.update(value=pictures.grid(found), label=f"Results: {about}")
