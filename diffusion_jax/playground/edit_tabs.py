"""The tabs of the playground that change a picture: inpaint, image to image, enlarge."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax.playground import inputs as parts
from diffusion_jax.playground import session
from diffusion_jax.playground.inputs import shown
from diffusion_jax.runs.run import Run

COUNT = 4  # results, unless another number is chosen


def inpaint_tab(run: Run, drawn: gr.State) -> None:
    """Draws anew what is painted over. drawn: the images drawn last."""
    with gr.Row():
        with gr.Column():
            given = given_input(drawn)
            what = parts.what_inputs(run, nothing="none", count=COUNT)
            how = parts.how_inputs(run)
            resample = gr.Slider(1, 20, 1, step=1, label="Resample: more fits the rest better")
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
            button = gr.Button("Inpaint", variant="primary", elem_id="inpaint")
        with gr.Column():
            original = parts.picture("Original", height=300)
            result = parts.picture("Results", name="inpainted", height=400)
            said = gr.Textbox(label="Settings", max_lines=1)
    image = gr.State(None)

    def prepare(file: str | None) -> tuple[Any, Any]:
        if file is None:
            return None, None
        square = session.square(run, Path(file))
        background = shown(session.large(square[0])).convert("RGB")
        return {"background": background, "layers": [], "composite": None}, square

    def inpaint(image: np.ndarray | None, painted: dict | None, times: int, *values: Any) -> tuple:
        if image is None:
            raise ValueError("A picture is missing; give one, or take one that was drawn")
        wanted = parts.settings("none", values)
        mask = session.mask_of(run, (painted or {}).get("layers") or [])
        found = session.inpaint(run, image, mask, wanted, resample=int(times))
        return _beside(run, image, found, wanted)

    given.change(parts.reported(prepare), given, [editor, image], **parts.LIGHT)
    inputs = [image, editor, resample, *what, *how]
    parts.job(button, inpaint, inputs, [original, result, said], on=result)


def image_tab(run: Run, drawn: gr.State) -> None:
    """Noises a picture, and denoises it again. drawn: the images drawn last."""
    with gr.Row():
        with gr.Column():
            given = given_input(drawn)
            strength = gr.Slider(
                0.05, 1, 0.6, step=0.05, label="Strength: 1 leaves next to nothing of it"
            )
            what = parts.what_inputs(run, nothing="none", count=COUNT)
            how = parts.how_inputs(run)
        button, outputs = _results("Change")

    def change(file: str | None, strength: float, *values: Any) -> tuple:
        image, wanted = _square(run, file), parts.settings("none", values)
        found = session.image_to_image(run, image, wanted, strength=strength)
        return _beside(run, image, found, wanted)

    parts.job(button, change, [given, strength, *what, *how], outputs, on=outputs[1])


def enlarge_tab(run: Run) -> None:
    """Large images for a small one."""
    with gr.Row():
        with gr.Column():
            given = parts.image_input("A picture")
            what = parts.what_inputs(run, nothing="none", count=1)
            how = parts.how_inputs(run)
        button, outputs = _results("Enlarge")

    def enlarge(file: str | None, *values: Any) -> tuple:
        image, wanted = _square(run, file), parts.settings("none", values)
        return _beside(run, image, session.enlarge(run, image, wanted), wanted)

    parts.job(button, enlarge, [given, *what, *how], outputs, on=outputs[1])


def given_input(drawn: gr.State) -> gr.Image:
    """A picture: of a file, or one of those drawn last."""
    given = parts.image_input("A picture")
    with gr.Row():
        number = gr.Number(1, label="Drawn image", precision=0, minimum=1)
        button = gr.Button("Take it", elem_classes="take")

    def take(images: np.ndarray | None, number: int | None) -> Any:
        if images is None:
            raise ValueError("Nothing was drawn yet; draw something first")
        if number is None or not 1 <= number <= len(images):
            raise ValueError(f"Number {number} was asked for; there are 1 to {len(images)}")
        return shown(images[number - 1])

    button.click(parts.reported(take), [drawn, number], given, **parts.LIGHT)
    return given


def _results(verb: str) -> tuple[gr.Button, list[gr.components.Component]]:
    """(the button, what is shown when it is clicked)."""
    with gr.Column():
        original = parts.picture("Original", height=400)
        button = gr.Button(verb, variant="primary", elem_id=verb.lower())
    with gr.Column():
        result = parts.picture("Results", height=400)
        said = gr.Textbox(label="Settings", max_lines=1)
    return button, [original, result, said]


def _square(run: Run, file: str | None) -> np.ndarray:
    if file is None:
        raise ValueError("A picture is missing; give one")
    return session.square(run, Path(file))


def _beside(
    run: Run, image: np.ndarray, found: np.ndarray, wanted: session.Settings
) -> tuple[Any, Any, str]:
    """(the original, the results, the settings)."""
    about = session.described(run, wanted)
    return shown(session.large(image[0])), shown(session.grid(found)), about
