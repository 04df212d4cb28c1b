"""Regular files below a local directory, links followed once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from cbmir.datasets.remarks import Remarks


def walk(top: str, *, fits: Callable[[str], object], enters: Callable[[str], object], remarks: Remarks) -> list[str]:
    """Paths of the regular files below `top`, sorted; hidden ones are passed over, as are pipes, sockets and devices.

    fits, enters: path below `top` -> whether a file is meant, whether a directory is to be looked into. Links are
    followed, but no directory is listed twice, so that loops end; directories reached without a link come first and keep
    their own path. Named in `remarks`: links to directories that are listed already, links that lead nowhere,
    directories that may not be read, names that are no text.
    """
    prefix = len(top.rstrip("/")) + 1
    seen: set[tuple[int, int]] = set()
    real, linked = deque([top]), deque()
    files: list[str] = []
    while real or linked:
        directory, is_link = (real.popleft(), False) if real else (linked.popleft(), True)
        for entry in _entries(directory, is_link, seen, remarks):
            inside = entry.path[prefix:]
            kind = _kind(entry)
            if kind == "directory" and enters(inside):
                (linked if entry.is_symlink() else real).append(entry.path)
            elif kind == "file" and fits(inside):
                files.append(entry.path)
            elif kind == "lost" and fits(inside):
                remarks.add("unreadable_file", "a link that leads nowhere", file=entry.path)
    return sorted(files)


def _entries(directory: str, is_link: bool, seen: set[tuple[int, int]], remarks: Remarks) -> list[os.DirEntry]:
    """What is in a directory, by name; nothing where it was seen before or cannot be read. Adds it to `seen`."""
    try:
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in seen:
            if is_link:
                remarks.add("second_link", f"leads to {os.path.realpath(directory)}", file=directory)
            return []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(directory) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        remarks.add("unreadable_file", f"a directory that cannot be listed: {error.strerror}", file=directory)
        return []
    for entry in found:
        if not _is_text(entry.name):
            remarks.add("unreadable_file", f"a name that is not UTF-8: {entry.name!r}", file=directory)
    return [entry for entry in found if _is_text(entry.name)]


def _kind(entry: os.DirEntry) -> str:
    """'directory', 'file', 'other' (a pipe, a device), or 'lost': a link that leads nowhere, or to itself."""
    try:
        if entry.is_dir():
            return "directory"
        if entry.is_file():
            return "file"
        return "lost" if entry.is_symlink() and not os.path.exists(entry.path) else "other"
    except OSError:
        return "lost"


def _is_text(name: str) -> bool:
    """Whether a name can be written in UTF-8; Linux allows any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
