"""Memory use as counted by the kernel, with NumPy, Pillow and Rust."""

import re
from contextlib import contextmanager
from pathlib import Path

MB = 2**20


@contextmanager
def at_most(bound):
    """Fails if the process grew by more than `bound` bytes at any time within."""
    before = _reset()
    yield
    grown = _status("VmHWM") - before
    assert grown <= bound, f"it took {grown / MB:.0f} MB, and may take {bound / MB:.0f}"


def _reset():
    """Resets the peak, and returns the current memory of the process."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name):
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024
