"""What is said of mistakes that others find: in flags, in the code of a config, in paths."""

import errno
import re
import traceback
from collections.abc import Sequence

from absl import flags

# What to do about errors of the operating system.
REMEDIES = {
    errno.EACCES: "; change its permissions (chmod), or choose another place",
    errno.EPERM: "; change its permissions (chmod), or choose another place",
    errno.EROFS: "; choose another place",
    errno.ENOSPC: "; make room, or choose another place",
    errno.EDQUOT: "; make room, or choose another place",
    errno.ENOENT: "; check the path, or choose another",
    errno.ENOTDIR: "; a part of the path is a file, choose another",
    errno.EISDIR: "; a file was expected",
    errno.EEXIST: "; delete it, or choose another place",
    errno.ENAMETOOLONG: "; choose a shorter one",
    errno.ELOOP: "; its links lead round in a circle",
    errno.EMFILE: "; allow more open files (ulimit -n)",
}
GUESS = re.compile(r'Did you mean "(\w+)"')


def explained(error: Exception, argv: Sequence[str], config: str = "") -> Exception:
    """The error of parsing these arguments, in words that say what to type.

    config: the path of the config's file.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        return _with_field(error)
    if line := _line_of(error, config):
        what = error.msg if isinstance(error, SyntaxError) else error
        return ValueError(f"--config={line}: {type(error).__name__}: {what}")
    if config and isinstance(error, SyntaxError):  # such as that of a file that is no text
        return ValueError(f"--config={config}: {error.msg}")
    if config and isinstance(error, AttributeError) and "attribute 'get_config'" in str(error):
        return ValueError(f"--config={config} has no function get_config; it must return a config")
    # An error raised by a config's function has the traceback in its text.
    flag, _, trace = str(error).partition(": Error whilst parsing config file:")
    if trace:
        return ValueError(f"{flag}: {trace.strip().splitlines()[-1]}")
    if isinstance(error, KeyError | AttributeError):
        return _of_field(error, argv)
    return error


def of_system(error: OSError) -> Exception:
    """An error of the operating system as a sentence: the path, what is wrong, what to do."""
    if error.errno is None:
        return error
    what = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return OSError(f"{what}{REMEDIES.get(error.errno, '')}")


def _line_of(error: Exception, config: str) -> str:
    """The line of a config's file where reading it failed; "" if something else did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if config and frame.filename == config]
    return f"{config}, line {lines[-1]}" if lines else ""


def _with_field(error: flags.UnrecognizedFlagError) -> Exception:
    """--steps, where a config has it: --config.steps."""
    if "config" not in flags.FLAGS:
        return error
    if error.flagname.startswith("config."):
        return _no_field(error.flagname)
    fields = [name for name in _fields() if name.split(".")[-1] == error.flagname]
    if not fields:
        return error
    typed = " or ".join(f"--config.{name}=VALUE" for name in fields)
    return ValueError(
        f"There is no flag --{error.flagname}; a config's field is changed by {typed}"
    )


def _of_field(error: Exception, argv: Sequence[str]) -> Exception:
    """--config.batchsize: the text of the error has the part of the name that is wrong."""
    text = str(error.args[0]) if error.args else ""
    wrong = re.search(r"\w+", text)
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if wrong and name.startswith("config.") and wrong[0] in name.split("."):
            guess = GUESS.search(text)
            return _no_field(name, name.replace(wrong[0], guess[1]) if guess else "")
    return error


def _no_field(name: str, guess: str = "") -> Exception:
    guess = f"did you mean {guess}? " if guess else ""
    return ValueError(f"There is no {name}; {guess}--dry_run shows the fields that this config has")


def _fields() -> list[str]:
    """The fields that every config has, by dotted name."""
    from configs import base
    from diffusion_jax.config.schema import flatten

    return list(flatten(base.get_config()))
