"""The playground's page: its tabs, and how it looks."""

import gradio as gr

from diffusion_jax.runs import playground
from diffusion_jax.runs.run import Run
from scripts import play_edits, play_tabs

# Pixels stay squares, and small images are shown as large as there is room.
CSS = """
.pixels img { image-rendering: pixelated; object-fit: contain; width: 100%; height: 100%; }
.gradio-container { max-width: 1400px !important; padding: 0 16px !important; }
footer { display: none !important; }
"""


def page(run: Run) -> gr.Blocks:
    """The page for a run. Raises ValueError if the run draws no images."""
    playground.own(run)
    side, model = run.config.data.resolution, run.config.model
    number, _ = playground.classes(run)
    about = [f"{side} x {side} pixels", model.name, f"step {run.step:,}"]
    about[1:1] = [f"{number} classes"] if number else []
    title = f"{run.workdir.name}: playground"
    with gr.Blocks(
        title=title,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 24 * 3600),  # seconds: looks for pictures of yesterday every hour
    ) as blocks:
        gr.Markdown(f"**{run.workdir.name}**: {', '.join(about)}")
        if playground.enlarges(run):
            play_edits.enlarge_tab(run)
            return blocks
        drawn = gr.State(None)  # the images drawn last, for the other tabs
        with gr.Tab("Draw"):
            play_tabs.draw_tab(run, drawn)
        with gr.Tab("Inpaint"):
            play_edits.inpaint_tab(run, drawn)
        with gr.Tab("Image to image"):
            play_edits.image_tab(run, drawn)
        with gr.Tab("Interpolate"):
            play_tabs.interpolate_tab(run)
        with gr.Tab("Compare"):
            play_tabs.compare_tab(run)
    return blocks


def theme() -> gr.Theme:
    """Gradio's, with the fonts that this machine has: its own come from Google."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
