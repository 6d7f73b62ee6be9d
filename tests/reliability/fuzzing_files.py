"""Damages a file of every kind at random, many times, and reads it.

Prints the results of each kind, and the row of the table in docs/reliability.md.
"""

import logging
import tempfile
from pathlib import Path

import file_kinds
import fuzzing


def main(count: int = 2000, seed: int = 1) -> tuple[int, list[str]]:
    """Returns (number of files tried, files neither read nor refused in one line).

    count: files of each kind.
    """
    logging.disable(logging.CRITICAL)
    refused, read, wrong, kinds = 0, 0, [], 0
    with tempfile.TemporaryDirectory() as temporary:
        for kind in file_kinds.make(Path(temporary) / "made"):
            found = fuzzing.attempts(kind, Path(temporary) / "damaged", count, seed)
            print(f"{kind.name}: {found[0]} refused, {found[1]} read", *found[2], sep="\n  ")
            refused, read, wrong = refused + found[0], read + found[1], wrong + found[2]
            kinds += 1
    logging.disable(logging.NOTSET)
    tried = refused + read + len(wrong)
    print(
        f"| random damage to a file, of {kinds} kinds | {tried:,} | {refused + read:,} "
        f"({refused:,} refused in a line, {read:,} read) | {len(wrong)} |"
    )
    return tried, wrong
