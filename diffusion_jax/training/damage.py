"""What is said of checkpoints that cannot be read or written, in one line."""

from pathlib import Path


class DamagedCheckpoint(ValueError):
    """The checkpoint at `path` is incomplete, or not what was written."""

    def __init__(self, path: Path, reason: Exception | str):
        self.path = path
        self.reason = _first_line(reason)
        super().__init__(
            f"The checkpoint {path} cannot be read ({self.reason}); delete that folder to go on "
            "from the one before"
        )


class SaveFailed(OSError):
    """A checkpoint could not be written; those before it are as they were. last: "of step 500"."""

    def __init__(self, path: Path, reason: Exception | str, last: str):
        super().__init__(
            f"The checkpoint {path} could not be written ({_first_line(reason)}); the last good "
            f"checkpoint is {last}. Make room there; the same command then goes on from it"
        )


def _first_line(reason: Exception | str) -> str:
    lines = str(reason).splitlines() or [type(reason).__name__]
    return lines[0][:200]
