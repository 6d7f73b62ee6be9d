"""Serves a web page to sample and edit images with a trained model.

python -m scripts.play --workdir runs/digits
python -m scripts.play --workdir digits --port 7861 --open

The page is served for this machine only, unless --host is given; then it needs a password. Nothing
is loaded from the internet and nothing is sent there.
"""

import importlib.util
import os
import sys

from absl import flags

from scripts.cli import app, path_flags

_WORKDIR = path_flags.define(
    "workdir", "digits", "Folder of the run, or name of a model that comes with the package."
)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Parameters to use: EMA or raw.")
_CHECKPOINT = flags.DEFINE_integer(
    "checkpoint", None, "Step of the checkpoint; default: the newest."
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on; 0.0.0.0 opens the page to the whole network. Other addresses than this "
    "machine's own need --password_file or --no_password.",
)
_PASSWORD_FILE = path_flags.define(
    "password_file",
    None,
    "File whose first line is the password of the page. Browsers ask for it; any user name does.",
)
_NO_PASSWORD = flags.DEFINE_bool(
    "no_password", False, "Let everyone in who can reach --host, without a password."
)
_PORT = flags.DEFINE_integer("port", 7860, "Port to listen on; 0: any free port.", 0, 65535)
_OPEN = flags.DEFINE_bool("open", False, "Open the page in a browser.")


def main() -> int:
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(
            "The page needs Gradio, which is not installed; type: "
            "pip install -r requirements-play.txt"
        )
    from diffusion_jax import parallel
    from diffusion_jax.playground import server
    from diffusion_jax.runs.run import load
    from diffusion_jax.workdir.run_files import load_config

    try:
        # The port comes first: it is checked before the model is loaded, which takes longer.
        with server.listening(_HOST.value, _PORT.value) as socket, server.offline():
            password = server.read_password(
                socket, _PASSWORD_FILE.value, no_password=_NO_PASSWORD.value
            )
            config = load_config(_WORKDIR.value)
            parallel.split_cpu(config.cpu_devices)
            run = load(_WORKDIR.value, checkpoint=_CHECKPOINT.value, ema=_PARAMS.value == "ema")
            server.serve(run, socket, password=password, open_browser=_OPEN.value)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr, flush=True)
        os._exit(130)  # a usual exit would wait for the running request
    return 0


if __name__ == "__main__":
    app.run(main)
