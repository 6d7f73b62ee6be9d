"""Writes a report of a run: one HTML file that needs no other, to be opened in a browser.

python -m scripts.report --workdir runs/digits
python -m scripts.report --workdir runs/a,runs/b --out comparison.html

Several runs are compared: their settings, curves, last samples and evaluations, and what they draw
from equal noises.
"""

from pathlib import Path

from absl import flags

from scripts.cli import app

_WORKDIR = flags.DEFINE_list("workdir", None, "Folder of a run, or a list of them to compare.")
flags.DEFINE_alias("workdirs", "workdir")
_OUT = flags.DEFINE_string(
    "out", None, "The file to write; default: WORKDIR/report.html. To compare runs, it is required."
)
_DRAW = flags.DEFINE_integer(
    "draw", 16, "To compare runs: images that each draws from equal noises; 0: none.", 0, 64
)

MOST_BYTES = 3_000_000  # of all pictures from equal noises


def main() -> int:
    from configs import base
    from diffusion_jax import report
    from diffusion_jax.files import atomic
    from diffusion_jax.report import equal_seeds
    from diffusion_jax.report.environment import here

    workdirs, out = [Path(path).expanduser() for path in _WORKDIR.value or []], out_of_flags()
    defaults = base.get_config()
    if len(workdirs) == 1:
        text = report.page(report.gather(workdirs[0], defaults), here())
    else:
        share = 1 / len(workdirs)
        options = {"most_samples": 1, "draw_data": False, "share": share}
        found = [report.gather(workdir, defaults, **options) for workdir in workdirs]
        drawn = []
        if _DRAW.value:
            most = int(share * MOST_BYTES)
            wanted = app.progress(workdirs, unit="run")
            drawn = [equal_seeds.draw(workdir, _DRAW.value, most) for workdir in wanted]
        text = report.comparison(found, here(), drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out, text)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def out_of_flags() -> Path:
    """Where the report goes. Raises ValueError if the flags do not say, or it cannot go there."""
    from diffusion_jax.files import write_access

    workdirs = [path for path in _WORKDIR.value or [] if path]
    if not workdirs:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    if len({Path(path).resolve() for path in workdirs}) < len(workdirs):
        raise ValueError(f"--workdir={','.join(workdirs)} names a run twice")
    if _OUT.value is None and len(workdirs) > 1:
        raise ValueError(
            "--out is missing, the file for the comparison; for example: --out ab.html"
        )
    out = Path(_OUT.value or Path(workdirs[0]) / "report.html").expanduser()
    if out.is_dir():
        raise ValueError(
            f"--out={out} is a folder; give the name of a file, such as {out / 'report.html'}"
        )
    write_access.check(out, "--out")
    return out


if __name__ == "__main__":
    app.run(main)
