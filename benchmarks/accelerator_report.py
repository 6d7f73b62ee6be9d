"""JSON and Markdown tables of the parts that `accelerator.sh` has measured so far.

python -m benchmarks.accelerator_report FOLDER

It needs the standard library alone.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    parts = {}
    for status in sorted(folder.glob("*.status"), key=lambda path: path.stat().st_mtime_ns):
        file = status.with_suffix(".json")
        figures = json.loads(file.read_text()) if file.is_file() else None
        parts[status.stem] = {"status": status.read_text().strip(), "figures": figures}
    (folder / "report.json").write_text(json.dumps(parts, indent=2) + "\n")
    lines = ["| | batch | images/s | TFLOP/s | share of peak | memory, GB | |", "|---" * 7 + "|"]
    for name, part in parts.items():
        note = "" if part["status"] == "done" else part["status"]
        lines += [f"| {' | '.join([*row, note])} |" for row in rows(name, part["figures"])]
    devices = {part["figures"]["device"] for part in parts.values() if device_of(part)}
    head = f"On {', '.join(sorted(devices)) or 'no device yet'}.\n\n"
    (folder / "report.md").write_text(head + "\n".join(lines) + "\n")


def device_of(part: dict[str, Any]) -> str | None:
    return (part["figures"] or {}).get("device")


def rows(name: str, figures: dict[str, Any] | None) -> list[list[str]]:
    """Returns the cells of a part, without the last column; several rows for a comparison."""
    if figures is None:
        return [[f"`{name}`", *[""] * 5]]
    if "sides" in figures:
        batch = figures["config"]["batch"]
        return [
            [f"{program}, {side}", str(batch), number(one["images_per_second"]), "", "", ""]
            for side, about in figures["sides"].items()
            for program, one in about["programs"].items()
        ]
    if "relative_error" in figures:
        errors = ", ".join(f"{kind} {e:.1e}" for kind, e in figures["relative_error"].items())
        return [[f"`{name}`, against CPU: {errors}", str(figures["batch"]), *[""] * 4]]
    keys = ("images_per_second", "tflops_per_second", "share_of_peak", "peak_memory_gb")
    return [[f"`{name}`", str(figures["batch"]), *(number(figures.get(key)) for key in keys)]]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
