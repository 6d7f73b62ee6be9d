"""What is said of flags that do not exist: what was meant, probably, and what to type."""

import re
from collections.abc import Sequence

from absl import flags

GUESS = re.compile(r'Did you mean "(\w+)"')


def explained(error: Exception, argv: Sequence[str]) -> Exception:
    """The error of parsing these arguments, in words that say what to type."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return _with_field(error)
    if isinstance(error, KeyError | AttributeError):
        return _of_field(error, argv)
    return error


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
    from diffusion_jax.runs.run_folder import flatten

    return list(flatten(base.get_config()))
