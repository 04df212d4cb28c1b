"""Bytes of a local path or an object-store address."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

import pyarrow.fs as pafs

from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_FILE_BYTES


def opened(location: str) -> BinaryIO:
    """A file that can be read and sought in; ImageError where there is none."""
    try:
        if "://" in location:
            fs, path = pafs.FileSystem.from_uri(location)
            return fs.open_input_file(path)
        mode = os.stat(location).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe would be waited for, a device never ends
            raise ImageError("no regular file", stage="read")
        return open(location, "rb")
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: an address that is none, such as ftp://...
        raise _unread(error) from error


def read_bytes(location: str) -> bytes:
    """Content of a local path or object-store address."""
    with opened(location) as file:
        try:
            size = file.seek(0, os.SEEK_END)
            if size > MOST_FILE_BYTES:
                raise ImageError(
                    f"a file of {size >> 20:,} MiB; at most {MOST_FILE_BYTES >> 20:,} are read", stage="read"
                )
            file.seek(0)
            return file.read()
        except OSError as error:
            raise _unread(error) from error


def stamp(location: str) -> tuple:
    """What changes when another file is put in a place; on an object store, the address alone."""
    try:
        found = os.stat(location)
    except (OSError, ValueError):
        return (location,)
    return (location, found.st_mtime_ns, found.st_size)


def _unread(error: Exception) -> ImageError:
    reason = getattr(error, "strerror", None) or str(error)
    return ImageError(f"{type(error).__name__}: {reason}", stage="read")
