"""The playground's page: the settings column, the tabs and the style."""

import random
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.themes import Default
from gradio.utils import get_upload_folder

from diffusion_jax.playground import components, edit_tabs, sample_tabs, sampling
from diffusion_jax.playground.inputs import checked
from diffusion_jax.playground.uploads import Uploads
from diffusion_jax.runs.run import Run

MOST_WAITING = 32  # requests
MOST_SESSIONS = 100  # whose sampled images are kept
# Pixels stay squares, and small images fill the available width.
CSS = """
.pixels img { image-rendering: pixelated; object-fit: contain; width: 100%; height: 100%; }
.gradio-container { max-width: 1400px !important; padding: 0 16px !important; }
footer { display: none !important; }
"""


class CheckedBlocks(gr.Blocks):
    """Blocks that check the types and files of a request's values.

    A request can name any path or URL. Gradio would copy that file to its cache and serve it: its
    own check runs for a page that `launch` serves, not for one that is mounted in an application.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any):
        uploads = Uploads(get_upload_folder())
        try:
            if len(inputs) != len(block_fn.inputs):
                raise ValueError(f"{len(inputs)} values for {len(block_fn.inputs)} inputs")
            inputs = [checked(*pair, uploads) for pair in zip(block_fn.inputs, inputs)]
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        try:
            return await super().preprocess_data(block_fn, inputs, *rest, **more)
        except gr.Error as error:  # a number out of its range: on the page, not in the terminal
            error.print_exception = False
            raise


def page(run: Run) -> gr.Blocks:
    """Returns the page of a run. Raises ValueError for a classifier, which cannot be sampled."""
    sampling.run_settings(run)
    side, model = run.config.data.resolution, run.config.model
    number, _ = sampling.classes(run)
    about = [f"{side} x {side} pixels", model.name, f"step {run.step:,}"]
    about[1:1] = [f"{number} classes"] if number else []
    with CheckedBlocks(
        title=f"{run.workdir.name}: playground",
        analytics_enabled=False,
        fill_width=True,
    ) as blocks:
        gr.Markdown(f"**{run.workdir.name}**: {', '.join(about)}")
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_id="settings"):
                settings = _settings(run)
            with gr.Column(scale=3):
                _tabs(run, settings)
    blocks.queue(max_size=MOST_WAITING, api_open=False)
    blocks.state_session_capacity = MOST_SESSIONS
    return blocks


def _settings(run: Run) -> list[Component]:
    """Returns the inputs of all tabs: classes, count, seed, solver, steps, guidance."""
    enlarges = sampling.enlarges(run)
    empty = "none" if enlarges else "random; none in edits"
    classes = components.classes_input(run, f"Classes (empty: {empty})")
    count = gr.Slider(1, components.LARGEST_COUNT, 1 if enlarges else 8, step=1, label="Images")
    seed = components.seed_input("Seed")
    another = gr.Button("Another seed", size="sm")
    another.click(lambda: random.randrange(10_000), None, seed, **components.LIGHT)
    return [classes, count, seed, *components.solver_inputs(run)]


def _tabs(run: Run, settings: components.Components) -> None:
    if sampling.enlarges(run):
        edit_tabs.edit_tab(run, settings, None, "Enlarge", "enlarge")
        return
    sampled = gr.State(None)  # the images sampled last, as input of the other tabs
    with gr.Tab("Sample"):
        sample_tabs.sample_tab(run, settings, sampled)
    with gr.Tab("Inpaint"):
        edit_tabs.inpaint_tab(run, settings, sampled)
    with gr.Tab("Image to image"):
        label = "Strength: with 1, almost nothing of the picture is left"
        strength = gr.Slider(0.05, 1, 0.6, step=0.05, label=label, render=False)
        edit_tabs.edit_tab(run, settings, sampled, "Change", "image_to_image", strength=strength)
    with gr.Tab("Interpolate"):
        sample_tabs.interpolate_tab(run, settings)
    with gr.Tab("Compare"):
        sample_tabs.compare_tab(run, settings)


def theme() -> gr.Theme:
    """Returns Gradio's theme with this machine's fonts; its own fonts come from Google."""
    return Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
