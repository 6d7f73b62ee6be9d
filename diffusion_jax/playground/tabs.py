"""The playground's tabs. Each gets the settings column's inputs, see `read_settings`."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax.generation import class_labels
from diffusion_jax.images import to_pil
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.playground import components, pictures, sampling
from diffusion_jax.playground.components import Components, on_click, one_line_errors
from diffusion_jax.runs.run import Run

PAUSE = 0.06  # seconds that a frame is shown
MOST_RESULTS = 24
JUMP = 10  # steps between resamplings, as in RePaint


def draw_tab(run: Run, settings: Components, drawn: gr.State) -> None:
    """Samples images and shows the denoising. drawn: receives the images."""
    button = gr.Button("Draw", variant="primary", elem_id="draw")
    result = components.picture("Images", name="drawn")
    line = gr.Textbox(label="In Python", elem_id="python", buttons=["copy"], max_lines=1)
    gallery = gr.Gallery(
        label="Earlier results",
        columns=5,
        fit_columns=False,
        format="png",
        object_fit="contain",
        elem_classes="pixels",
        height=180,
    )
    earlier = gr.State([])

    def draw(wanted: dict[str, Any], before: list) -> Iterator[tuple]:
        wanted["labels"] = wanted["labels"] or "random"
        captions = _captions(run, wanted)
        for images, progress in sampling.sample_live(run, **sampling.arguments(run, wanted)):
            picture = pictures.grid(images, captions)
            if progress:
                yield picture, progress, *[gr.skip()] * 3
                time.sleep(PAUSE)
        results = [(picture, sampling.description(run, wanted)), *before][:MOST_RESULTS]
        yield picture, sampling.python_line(run, wanted), results, results, images

    outputs = [result, line, gallery, earlier, drawn]
    on_click(button, draw, [earlier], outputs, settings=settings, progress=result)


def compare_tab(run: Run, settings: Components) -> None:
    """Samples with two settings from the same noises and classes."""
    gr.Markdown("The settings at the left, beside these:")
    with gr.Row():
        other = components.solver_inputs(
            run, steps=max(1, sampling.run_settings(run)["steps"] // 5)
        )
    button = gr.Button("Draw both", variant="primary", elem_id="compare")
    results, lines = [], []
    with gr.Row():
        for name in ("At the left", "These"):
            with gr.Column():
                results.append(components.picture(name))
                lines.append(gr.Textbox(label="In Python", buttons=["copy"], max_lines=1))

    def compare(wanted: dict[str, Any], *values: Any) -> Iterator[list]:
        first = wanted | {"labels": wanted["labels"] or "random"}
        both = [first, first | components.read_solver(*values)]
        grids = [
            pictures.grid(run.sample(**sampling.arguments(run, one)), _captions(run, one))
            for one in both
        ]
        yield grids + [sampling.python_line(run, one) for one in both]

    on_click(button, compare, other, [*results, *lines], settings=settings, progress=results)


def interpolate_tab(run: Run, settings: Components) -> None:
    """Interpolates between the images of two seeds, or between two given pictures."""
    gr.Markdown("Between the images of two seeds, or between two pictures if both are given.")
    ends = []
    with gr.Row():
        for number, name in enumerate(("first", "second")):
            with gr.Column():
                ends.append(components.seed_input(f"Seed of the {name}", number))
                label = f"Class of the {name} (empty: random; with pictures none)"
                ends.append(components.classes_input(run, label))
                with gr.Accordion("A picture in place of the seed", open=False):
                    ends.append(components.file_input(f"The {name}"))
    button = gr.Button("Interpolate", variant="primary", elem_id="interpolate")
    with gr.Row():
        all_frames = components.picture("All frames")
        with gr.Column():
            one = components.picture("One frame", height=340)
            place = gr.Slider(1, 2, 1, step=1, label="Frame")
    frames = gr.State(None)

    def interpolate(wanted: dict[str, Any], *values: Any) -> Iterator[tuple]:
        seeds, labels, files = zip(values[:3], values[3:])
        if None in seeds:
            raise ValueError("A seed is missing; type a number")
        found = _between(run, seeds, labels, files, wanted)
        slider = gr.Slider(1, max(2, len(found)), 1, step=1)
        yield pictures.grid(found), pictures.enlarged(found[0]), slider, found

    def show(found: np.ndarray | None, place: int) -> Any:
        return None if found is None else pictures.enlarged(found[min(place, len(found)) - 1])

    outputs = [all_frames, one, place, frames]
    on_click(button, interpolate, ends, outputs, settings=settings, progress=all_frames)
    place.change(show, [frames, place], one, **components.LIGHT)


def inpaint_tab(run: Run, settings: Components, drawn: gr.State) -> None:
    """Samples the painted pixels again. drawn: the images of the tab Draw."""
    with gr.Row():
        with gr.Column():
            file = _picture_input(drawn)
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
            button = gr.Button("Inpaint", variant="primary", elem_id="inpaint")
    result = components.picture("Results", name="inpainted")
    image = gr.State(None)

    @one_line_errors()
    def prepare(file: str | None) -> tuple[Any, Any, Any]:
        if file is None:
            return None, None, None
        square = pictures.read_square(run, file)
        shown = pictures.enlarged(square[0]).convert("RGB")
        return shown, {"background": shown, "layers": [], "composite": None}, square

    def inpaint(wanted: dict[str, Any], image: Any, painted: Any, times: int) -> Iterator[Any]:
        if image is None:
            raise ValueError("The picture is missing; upload one, or use a drawn image")
        mask = pictures.painted_mask(run, (painted or {}).get("layers") or [])
        jump = min(JUMP, max(1, wanted["steps"] - 1))
        arguments = _edit_arguments(run, wanted) | {"resample": int(times), "jump": jump}
        yield _result(run, run.edit.inpaint(image, mask, **arguments), wanted)

    file.change(prepare, file, [original, editor, image], **components.LIGHT)
    inputs = [image, editor, resample]
    on_click(button, inpaint, inputs, [result], settings=settings, progress=result)


def edit_tab(
    run: Run,
    settings: Components,
    drawn: gr.State | None,
    verb: str,
    edit: Callable[..., Gallery],
    **options: gr.Slider,
) -> None:
    """Edits a picture with a method of `run.edit`. drawn: see `inpaint_tab`; None: files only.

    options: inputs for further arguments of the method, not rendered yet.
    """
    with gr.Row():
        with gr.Column():
            file = components.file_input("A picture") if drawn is None else _picture_input(drawn)
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
        found = edit(image, **dict(zip(options, values)), **_edit_arguments(run, wanted))
        yield pictures.enlarged(image[0]), _result(run, found, wanted)

    inputs, outputs = [file, *options.values()], [original, result]
    on_click(button, call, inputs, outputs, settings=settings, progress=result)


def _picture_input(drawn: gr.State) -> gr.Image:
    """Returns an input for a picture: an image file, or one of the drawn images."""
    file = components.file_input("A picture")
    with gr.Row():
        number = gr.Number(1, label="Drawn image", precision=0, minimum=1)
        button = gr.Button("Use it", elem_classes="take")

    @one_line_errors()
    def use(images: np.ndarray | None, number: int | None) -> Any:
        if images is None:
            raise ValueError("There are no drawn images yet; draw some first")
        if number is None or not 1 <= number <= len(images):
            raise ValueError(f"Drawn image {number} does not exist; choose from 1 to {len(images)}")
        return to_pil(images[number - 1])  # not enlarged, so that its pixels come back exactly

    button.click(use, [drawn, number], file, **components.LIGHT)
    return file


def _between(
    run: Run,
    seeds: tuple[int, int],
    labels: Sequence[list[str]],
    files: Sequence[str | None],
    wanted: dict[str, Any],
) -> Gallery:
    """Returns the frames between two pictures if both are given, otherwise between two seeds."""
    if any(files) and not all(files):
        raise ValueError("One picture was given; give two, or none to use the seeds")
    default = "none" if all(files) else "random"
    texts = tuple(", ".join(chosen or []) or default for chosen in labels)
    arguments = sampling.arguments(run, wanted | {"seed": seeds[0]})
    del arguments["labels"]
    if not all(files):
        return sampling.between_seeds(run, texts, seeds, **arguments)
    both = [pictures.read_square(run, file) for file in files]
    chosen = sampling.end_labels(run, texts, seeds).tolist() if sampling.classes(run)[0] else "none"
    return run.edit.interpolate(*both, chosen, **arguments)


def _edit_arguments(run: Run, wanted: dict[str, Any]) -> dict[str, Any]:
    return sampling.arguments(run, wanted | {"labels": wanted["labels"] or "none"})


def _result(run: Run, found: Gallery, wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns an update of a picture: the results, and the settings as its label."""
    about = sampling.description(run, wanted | {"labels": wanted["labels"] or "none"})
    return gr.update(value=pictures.grid(found), label=f"Results: {about}")


def _captions(run: Run, wanted: sampling.Settings) -> list[str]:
    labels = run.labels(wanted["labels"], wanted["count"], seed=wanted["seed"])
    return class_labels.captions(labels, *sampling.classes(run))
