"""The command `diffusion-jax`: `diffusion-jax train ...` is `python -m scripts.train ...`."""

import difflib
import runpy
import sys

import diffusion_jax
from diffusion_jax.config.named_configs import ROOT

# In the order of use.
COMMANDS = {
    "train": "train a model, or resume a run",
    "sample": "sample images",
    "edit": "edit images: noise, inpaint, interpolate, vary, invert, enlarge",
    "play": "sample and edit on a page in the browser",
    "fid": "evaluate images: FID and other metrics",
    "report": "write one HTML file about a run, or several",
    "data": "prepare and inspect datasets",
    "convert": "import and export checkpoints of other programs",
    "average": "compute another average of the parameters, after training",
}


def main() -> None:
    """Runs the script that the first argument names, with its exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("diffusion-jax COMMAND [--flag VALUE ...]\n")
        for command, about in COMMANDS.items():
            print(f"  {command:8} {about}")
        print("\ndiffusion-jax COMMAND --help shows the flags of a command.")
    elif name in ("--version", "version"):
        print(f"diffusion-jax {diffusion_jax.__version__}")
    elif name in COMMANDS:
        sys.path.insert(0, str(ROOT))
        sys.argv = [f"diffusion-jax {name}", *sys.argv[2:]]
        runpy.run_module(f"scripts.{name}", run_name="__main__", alter_sys=True)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(COMMANDS)
        print(f"Error: Unknown command {name!r}; {guess}known commands: {known}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
