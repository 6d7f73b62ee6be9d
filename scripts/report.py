"""Writes a report of a run as one self-contained HTML file.

python -m scripts.report --workdir runs/digits
python -m scripts.report --workdir runs/a --workdir runs/b --out comparison.html

Several runs are compared: their settings, curves, last samples and evaluations, and samples from
equal noise.
"""

from pathlib import Path

from absl import flags

from scripts.cli import app, path_flags

_WORKDIR = path_flags.define_several("workdir", "Folder of a run; repeated, the runs are compared.")
_OUT = path_flags.define(
    "out", None, "File to write; default: WORKDIR/report.html. Required to compare runs."
)
_SAMPLES = flags.DEFINE_integer(
    "samples", 16, "When comparing: samples of each run from equal noise; 0: none.", 0, 64
)

MOST_BYTES = 3_000_000  # of all samples from equal noise


def main() -> int:
    from configs import base
    from diffusion_jax import report
    from diffusion_jax.files import atomic

    workdirs, out = _WORKDIR.value or [], out_of_flags()
    defaults = base.get_config()
    if len(workdirs) == 1:
        text = report.run_page(report.read_run(workdirs[0], defaults), report.here())
    else:
        share = 1 / len(workdirs)
        options = {"most_samples": 1, "show_data": False, "share": share}
        found = [report.read_run(workdir, defaults, **options) for workdir in workdirs]
        samples = []
        if _SAMPLES.value:
            most = int(share * MOST_BYTES)
            samples = [
                report.sample_equal_seeds(workdir, _SAMPLES.value, most)
                for workdir in app.progress(workdirs, unit="run")
            ]
        text = report.comparison_page(found, report.here(), samples)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(out, text)
    print(f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def out_of_flags() -> Path:
    """Returns the file to write. Raises ValueError if flags are missing or it cannot be written."""
    from diffusion_jax.files import write_access

    workdirs = _WORKDIR.value or []
    if not workdirs:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise ValueError(f"--workdir={', '.join(map(str, workdirs))} names a run twice")
    if _OUT.value is None and len(workdirs) > 1:
        raise ValueError(
            "--out is missing, which a comparison requires; for example: --out ab.html"
        )
    out = _OUT.value or workdirs[0] / "report.html"
    if out.is_dir():
        raise ValueError(
            f"--out={out} is a folder; give the name of a file, such as {out / 'report.html'}"
        )
    write_access.check(out, "--out")
    return out


if __name__ == "__main__":
    app.run(main)
