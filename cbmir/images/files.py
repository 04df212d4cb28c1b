"""Bytes of a local path or an object-store address."""

from __future__ import annotations

import os
import posixpath
import stat
import uuid
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pyarrow.fs as pafs

from cbmir import patience
from cbmir.images.errors import ImageError
from cbmir.images.limits import MOST_FILE_BYTES
from cbmir.patience import StorageError, named, passes, patiently, reason


def opened(location: str) -> BinaryIO:
    """A file that can be read and sought in; ImageError where there is none, StorageError where its store is silent."""
    try:
        if "://" in location:
            return _Remote(location)
        mode = os.stat(location).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe would be waited for, a device never ends
            raise ImageError("no regular file", stage="read")
        return open(location, "rb")
    except (ImageError, StorageError):
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


def beside(location: str) -> list[str]:
    """Addresses of the files in a file's directory, hidden ones passed over, sorted; ImageError where it cannot be listed."""
    try:
        if "://" not in location:
            with os.scandir(os.path.dirname(location) or ".") as entries:
                names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
            return [os.path.join(os.path.dirname(location), name) for name in sorted(names)]
        fs, path = _place(location)
        selector = pafs.FileSelector(posixpath.dirname(path))
        found = patiently(lambda: fs.get_file_info(selector), named(location))
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise _unread(error) from error
    parts = urlsplit(location)
    directory = posixpath.dirname(parts.path)
    names = sorted(info.base_name for info in found if info.is_file and not info.base_name.startswith("."))
    return [urlunsplit(parts._replace(path=f"{directory}/{quote(name)}")) for name in names]


class _Remote:
    """A file on an object store, read again while the store fails: a passing fault of a server is not one of an image.

    A store that stays silent ends the run (StorageError), which goes on later; one that answers, but not for this
    file, makes it a failure like any other.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.fs: pafs.FileSystem | None = None
        self.file = self._patiently(self._open)

    def _open(self) -> BinaryIO:
        self.fs, self.path = _place(self.location)
        return self.fs.open_input_file(self.path)

    def read(self, size: int | None = None) -> bytes:
        at = self.file.tell()

        def from_there() -> bytes:
            self.file.seek(at)
            return self.file.read(size)

        return self._patiently(from_there)

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self) -> _Remote:
        return self

    def __exit__(self, *exception) -> None:
        self.file.close()

    def _patiently(self, call: Callable):
        try:
            return patiently(call, named(self.location))
        except StorageError as error:
            if self._is_silent():
                raise
            said = f"no answer for {patience.PATIENCE:.0f} s ({reason(error.__cause__)}), though the store answers for others; --retry-failures asks again"
            raise ImageError(said, stage="read") from error

    def _is_silent(self) -> bool:
        """Whether the store fails for another file too, one that is not there."""
        try:
            if self.fs is not None:
                self.fs.get_file_info(f"{self.path}.{uuid.uuid4().hex}")
        except OSError as error:
            return passes(error)
        return self.fs is None


def _place(location: str) -> tuple[pafs.FileSystem, str]:
    """An address -> (filesystem, path on it)."""
    parts = urlsplit(location)
    if parts.scheme not in ("s3", "gs", "gcs"):
        return pafs.FileSystem.from_uri(location)
    root = urlunsplit(parts._replace(path="/", fragment=""))
    with _making:
        fs = _store(root)
    return fs, parts.netloc.rpartition("@")[2] + unquote(parts.path)


_making = Lock()  # threads that read ahead all ask at once


@lru_cache(maxsize=8)
def _store(root: str) -> pafs.FileSystem:
    """One for all files of a bucket: to make one waits for every request of the process, and may ask for the bucket's region."""
    return pafs.FileSystem.from_uri(root)[0]


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
