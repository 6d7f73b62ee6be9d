"""Tabs that sample from noise: sample, compare, interpolate."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax.generation import class_labels
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.playground import components, pictures, sampling
from diffusion_jax.playground.components import Components, on_click
from diffusion_jax.runs.run import Run

PAUSE = 0.06  # seconds that a frame is shown
MOST_RESULTS = 24


def sample_tab(run: Run, settings: Components, sampled: gr.State) -> None:
    """Samples images and shows the denoising. sampled: receives the images."""
    button = gr.Button("Sample", variant="primary", elem_id="sample")
    result = components.picture("Images", name="samples")
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

    def sample(wanted: dict[str, Any], before: list) -> Iterator[tuple]:
        wanted["labels"] = wanted["labels"] or "random"
        captions = _captions(run, wanted)
        for images, progress in sampling.sample_live(run, **sampling.arguments(run, wanted)):
            picture = pictures.grid(images, captions)
            if progress:
                yield picture, progress, *[gr.skip()] * 3
                time.sleep(PAUSE)
        results = [(picture, sampling.description(run, wanted)), *before][:MOST_RESULTS]
        yield picture, sampling.python_line(run, wanted), results, results, images

    outputs = [result, line, gallery, earlier, sampled]
    on_click(button, sample, [earlier], outputs, settings=settings, progress=result)


def compare_tab(run: Run, settings: Components) -> None:
    """Samples with two settings from the same noise and classes."""
    gr.Markdown("The settings at the left, beside these:")
    with gr.Row():
        other = components.solver_inputs(
            run, steps=max(1, sampling.run_settings(run)["steps"] // 5)
        )
    button = gr.Button("Sample both", variant="primary", elem_id="compare")
    results, lines = [], []
    with gr.Row():
        for name in ("At the left", "These"):
            with gr.Column():
                results.append(components.picture(name))
                lines.append(gr.Textbox(label="In Python", buttons=["copy"], max_lines=1))

    def compare(wanted: dict[str, Any], *values: Any) -> Iterator[list]:
        first = wanted | {"labels": wanted["labels"] or "random"}
        both = [first, first | components.read_solver(*values)]
        size = sampling.batch_size(run, wanted["count"])
        found = [run.sample(batch_size=size, **sampling.arguments(run, one)) for one in both]
        grids = [pictures.grid(images, _captions(run, one)) for images, one in zip(found, both)]
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
    default, chosen = "none" if all(files) else "random", "none"
    if sampling.classes(run)[0]:
        texts = [", ".join(names or []) or default for names in labels]
        chosen = [int(run.labels(t, 1, seed=seed)[0]) for t, seed in zip(texts, seeds)]
    arguments = sampling.arguments(run, wanted | {"labels": chosen, "seed": seeds[0]})
    edits = sampling.edits(run, wanted["count"])
    if all(files):
        return edits.interpolate(*(pictures.read_square(run, f) for f in files if f), **arguments)
    return edits.interpolate(seeds=seeds, **arguments)


def _captions(run: Run, wanted: sampling.Settings) -> list[str]:
    labels = run.labels(wanted["labels"], wanted["count"], seed=wanted["seed"])
    return class_labels.captions(labels, *sampling.classes(run))
