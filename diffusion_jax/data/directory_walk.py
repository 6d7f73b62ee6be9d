"""Files below a folder, also through links, which may lead out of it but not in circles."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Thumbnails, attributes and deleted files of other systems: Synology, macOS, Windows, Linux.
IGNORED_FOLDERS = {"@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found"}
IGNORED_FOLDERS |= {"@Recycle", "@tmp", "#snapshot", "System Volume Information"}


@dataclass
class Walk:
    """Iterator over the files below `root` as relative POSIX paths; hidden ones are left out.

    Links to files and folders are followed, to each folder once, but not links to a parent of
    `root`. Nothing below `IGNORED_FOLDERS` is yielded. After the iteration, `outside` is the number
    of files outside `root`, `example` the first of them, `folders` has the relative paths of the
    folders, `ignored` the files below `IGNORED_FOLDERS`, and `hidden` the hidden files and folders.
    """

    root: Path
    outside: int = 0
    example: str = ""
    folders: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[str]:
        """Yields the paths. Raises OSError for a folder that cannot be read."""
        self._home = os.path.realpath(self.root)
        yield from self._below(str(self.root), "")

    def notes(self) -> list[str]:
        """Returns a line about the files outside `root`, if there are any."""
        if not self.outside:
            return []
        real = os.path.realpath(self.root / self.example)
        return [
            f"Links lead out of {self.root} to {self.outside:,} of its files, such as "
            f"{self.example} ({real}); they are used like the others"
        ]

    def _below(self, folder: str, relative: str) -> Iterator[str]:
        todo = [(folder, relative)]
        while todo:
            folder, relative = todo.pop()
            system = IGNORED_FOLDERS.intersection(relative.split("/"))
            real = os.path.realpath(folder)
            if real in self._seen or (real != self._home and _is_in(self._home, real)):
                continue
            self._seen.add(real)
            if relative and not system:
                self.folders.append(relative.removesuffix("/"))
            out = not _is_in(real, self._home)
            folders = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        self.hidden.append(f"{relative}{entry.name}")
                        continue
                    if _is_folder(entry):
                        folders.append(entry.name)
                        continue
                    path = f"{relative}{entry.name}"
                    if system:
                        self.ignored.append(path)
                        continue
                    if out or (entry.is_symlink() and self._leads_out(entry.path)):
                        self.outside += 1
                        self.example = min(self.example or path, path)
                    yield path
            for name in sorted(folders, reverse=True):
                todo.append((os.path.join(folder, name), f"{relative}{name}/"))

    def _leads_out(self, path: str) -> bool:
        return not _is_in(os.path.realpath(path), self._home)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle; the decoder reports it
        return False


def _is_in(path: str, folder: str) -> bool:
    """True if a path is the folder or below it; both without links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
