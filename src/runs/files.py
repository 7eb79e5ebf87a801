"""Untrusted files and folders: reads are bounded, and writes stay inside the folder."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LARGEST = 2**26  # bytes of a JSON file, or of a file with one row per epoch
LARGEST_SIGNALS = 2**30  # bytes of signals.csv, with one row per layer and look


def open_regular(path: str | os.PathLike[str], largest: int = LARGEST) -> BinaryIO:
    """Open a regular file for reading. A named pipe or a device, which might never end, is refused.

    Args:
        path: of the file; a link is followed.
        largest: size allowed, in bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a regular file, or it is too large.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file")
    if status.st_size > largest:
        raise ValueError(f"{path} has {status.st_size:,} bytes; at most {largest:,} are read")
    # O_NONBLOCK: if a pipe replaces the file meanwhile, opening it does not block. Windows has no such pipes.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))


def relative(path: Path) -> Path:
    """A path as seen from the current folder, if it is in there; else as it is."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_regular(path: str | os.PathLike[str], largest: int = LARGEST) -> bytes:
    """The content of a regular file, see ``open_regular``; at most ``largest`` bytes, even if the file grows."""
    with open_regular(path, largest) as file:
        return file.read(largest) or b""


def links_outside(folder: Path) -> Iterator[str]:
    """One sentence for each entry of a folder, at any depth, through which a write could change something outside:
    symbolic links that lead out, files with a second name (hard links), pipes and devices."""
    home = os.path.realpath(folder)
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process works there
            continue
        if stat.S_ISLNK(status.st_mode):
            if not Path(os.path.realpath(path)).is_relative_to(home):
                yield f"{path} is a link that leads out of {folder}; replace it by a copy of what it leads to."
        elif not is_own(status):
            yield f"{path} is a hard link, a pipe or a device, none of which is written to; replace it by a plain file."


def is_own(status: os.stat_result) -> bool:
    """Whether this is a folder, or a regular file without hard links."""
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)


def check_stays_within(folder: Path) -> None:
    """Check that writes in a folder stay in it, see ``links_outside``.

    Raises:
        ValueError: a write could leave the folder.
    """
    for finding in links_outside(folder):
        raise ValueError(finding)
