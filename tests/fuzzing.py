"""Reads damaged files: each is read or refused in one line, soon and in little memory."""

import shutil
import time
import traceback
from collections import Counter
from pathlib import Path

import memory
import numpy as np
from damaging import damaged

import diffusion_jax

MOST_SECONDS = 10
REFUSALS = (ValueError, OSError)  # FileNotFoundError is one, JSONDecodeError the other


def attempts(kind, folder, count, seed=0):
    """Returns (number refused, number read, [descriptions of other outcomes]).

    count: number of damaged files; a tenth of it for slow kinds.
    """
    count = max(1, count // 10) if kind.slow else count
    kind.put(_emptied(folder), kind.content)
    kind.read(folder)
    outcomes, wrong = Counter(), []
    for number in range(count):
        generator = np.random.default_rng([seed, number, *kind.name.encode()])
        content = damaged(kind.content, generator)
        kind.put(_emptied(folder), content)
        start = time.monotonic()
        try:
            with memory.at_most(kind.most):
                kind.read(folder)
            outcomes["read"] += 1
        except REFUSALS as error:
            outcomes["refused"] += 1
            if len(str(error).splitlines()) != 1 or len(str(error)) > 1000:
                wrong.append(f"{kind.name} {number}: not one line: {str(error)[:300]!r}")
            if not (isinstance(error, OSError) or _is_ours(error)):
                wrong.append(f"{kind.name} {number}: a library's error: {str(error)[:300]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            wrong.append(f"{kind.name} {number}: {type(error).__name__} at {place}: {error!s:.200}")
        if (took := time.monotonic() - start) > MOST_SECONDS:
            wrong.append(f"{kind.name} {number}: took {took:.0f} s")
    return outcomes["refused"], outcomes["read"], wrong


def _is_ours(error):
    """True if this project's code raised the error; scripts show other errors with tracebacks."""
    file = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    return file.is_relative_to(Path(diffusion_jax.__file__).parent)


def _emptied(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
