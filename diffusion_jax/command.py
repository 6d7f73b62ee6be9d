"""The command `diffusion-jax`: `diffusion-jax train ...` is `python -m scripts.train ...`."""

import runpy
import sys
from importlib import metadata

from diffusion_jax.config.named_configs import ROOT

# What each does, in the order of use.
COMMANDS = {
    "train": "train a model, or go on",
    "sample": "draw images",
    "edit": "change images: noise, inpaint, interpolate, vary, invert, enlarge",
    "play": "a page in the browser to draw and edit on",
    "fid": "measure images: FID and other metrics",
    "report": "one HTML file about a run, or several",
    "data": "prepare datasets, and look at them",
    "convert": "read and write checkpoints of other programs",
    "average": "another average of the parameters, after training",
}


def main() -> None:
    """Runs the script that the first argument names; its exit code is the script's."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("diffusion-jax COMMAND [--flag VALUE ...]\n")
        for command, what in COMMANDS.items():
            print(f"  {command:8} {what}")
        print("\ndiffusion-jax COMMAND --help shows the flags of a command.")
        return
    if name in ("--version", "version"):
        print(f"diffusion-jax {metadata.version('diffusion_jax')}")
        return
    if name not in COMMANDS:
        print(
            f"Error: {name!r} was given, one of these was expected: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.path.insert(0, str(ROOT))
    sys.argv = [f"diffusion-jax {name}", *sys.argv[2:]]
    runpy.run_module(f"scripts.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
