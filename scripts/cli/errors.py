"""Error lines: unknown flags, and errors of the operating system with their fix."""

import errno
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from absl import flags

ROOT = Path(__file__).resolve().parents[2]

FIXES = {
    errno.EACCES: "; change its permissions (chmod), or choose another place",
    errno.EPERM: "; change its permissions (chmod), or choose another place",
    errno.EROFS: "; choose another place",
    errno.ENOSPC: "; make room, or choose another place",
    errno.EDQUOT: "; make room, or choose another place",
    errno.EMFILE: "; allow more open files (ulimit -n)",
}


def fail(error: Exception) -> NoReturn:
    """Prints the error as one line without control characters, and exits with 1."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    line = "".join(char if char.isprintable() else "?" for char in " ".join(lines))
    print("Error: " + line[:2000], file=sys.stderr)
    sys.exit(1)


def with_known_flag(error: Exception) -> Exception:
    """Names the flag or the config's field that an unknown flag is: --config.steps for --steps."""
    if not isinstance(error, flags.UnrecognizedFlagError):
        return error
    from configs import base
    from diffusion_jax.config.other_names import OTHER_NAMES
    from diffusion_jax.config.schema import flatten

    name = OTHER_NAMES.get(error.flagname, error.flagname)
    if name != error.flagname and name in flags.FLAGS:
        return ValueError(f"Unknown flag --{error.flagname}; did you mean --{name}?")
    if "config" not in flags.FLAGS:
        return error
    fields = [each for each in flatten(base.get_config()) if each.endswith(f".{name}")]
    if name in base.get_config():
        fields.insert(0, name)
    if not fields:
        return error
    typed = " or ".join(f"--config.{each}=VALUE" for each in fields)
    return ValueError(f"Unknown flag --{error.flagname}; to change a field of the config: {typed}")


def with_fix(error: OSError) -> Exception:
    """Writes an error of the operating system as path, reason, and fix."""
    if error.errno is None:
        return error
    what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return OSError(f"{what}{FIXES.get(error.errno, '; check the path, or choose another')}")


def raised_by_us(error: Exception) -> bool:
    """True if code of this project raised the error, rather than a library."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    package = Path(importlib.util.find_spec("diffusion_jax").origin).resolve().parent
    ours = (package, ROOT / "scripts", ROOT / "benchmarks")
    return any(origin.is_relative_to(folder) for folder in ours)
