"""TensorBoard event file, written in the calling thread so that failures can be caught."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog


class EventFile:
    """An event file in `folder`; TensorBoard hides earlier events of steps from `start_step` on.

    All methods raise OSError if the file cannot be written.
    """

    def __init__(self, folder: Path, *, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        session = SessionLog(status=SessionLog.START)
        self._write(step=start_step, file_version="brain.Event:2")
        self._write(step=start_step, session_log=session)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one point of a curve."""
        self._write(step=step, summary=summary.scalar(name, value))

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Writes an image of shape (height, width, channels)."""
        self._write(step=step, summary=summary.image(name, pixels, dataformats="HWC"))

    def flush(self) -> None:
        """Writes buffered events to the disk."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        self._file.write_event(Event(wall_time=time.time(), **content))
