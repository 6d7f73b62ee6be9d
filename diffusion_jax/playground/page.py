"""The playground's page: its tabs, and how it looks."""

import gradio as gr

from diffusion_jax.playground import edit_tabs, sample_tabs, session
from diffusion_jax.runs.run import Run

# Pixels stay squares, and small images are shown as large as there is room.
CSS = """
.pixels img { image-rendering: pixelated; object-fit: contain; width: 100%; height: 100%; }
.gradio-container { max-width: 1400px !important; padding: 0 16px !important; }
footer { display: none !important; }
"""


def page(run: Run) -> gr.Blocks:
    """The page for a run. Raises ValueError if the run draws no images."""
    session.own(run)
    side, model = run.config.data.resolution, run.config.model
    number, _ = session.classes(run)
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
        if session.enlarges(run):
            edit_tabs.enlarge_tab(run)
            return blocks
        drawn = gr.State(None)  # the images drawn last, for the other tabs
        with gr.Tab("Draw"):
            sample_tabs.draw_tab(run, drawn)
        with gr.Tab("Inpaint"):
            edit_tabs.inpaint_tab(run, drawn)
        with gr.Tab("Image to image"):
            edit_tabs.image_tab(run, drawn)
        with gr.Tab("Interpolate"):
            sample_tabs.interpolate_tab(run)
        with gr.Tab("Compare"):
            sample_tabs.compare_tab(run)
    return blocks


def theme() -> gr.Theme:
    """Gradio's, with the fonts that this machine has: its own come from Google."""
    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
