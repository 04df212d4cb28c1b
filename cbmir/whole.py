"""One file on any filesystem, read or written whole or not at all; a store that fails for a while is waited for."""

from __future__ import annotations

import contextlib
import os
import uuid

import pyarrow as pa
import pyarrow.fs as pafs

from cbmir.patience import patiently


def read_whole(fs: pafs.FileSystem, path: str, *, where: str) -> bytes | None:
    """A file's content, None where there is none; StorageError, naming `where`, of a store that is silent."""

    def read() -> bytes | None:
        try:
            with fs.open_input_stream(path) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    return patiently(read, where)


def write_whole(fs: pafs.FileSystem, path: str, data: bytes | pa.Buffer, *, where: str, mode: int = 0o666) -> None:
    """Beside and renamed locally, with permissions `mode` less the process's umask; object stores publish on close.

    StorageError, naming `where`, of a disk that is full or a store that is silent.
    """
    if isinstance(fs, pafs.LocalFileSystem):
        patiently(lambda: _write_local(path, data, mode), where)
    else:
        patiently(lambda: _put(fs, path, data), where)


def _put(fs: pafs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    fs.create_dir(os.path.dirname(path), recursive=True)
    with fs.open_output_stream(path) as stream:
        stream.write(data)


def _write_local(path: str, data: bytes | pa.Buffer, mode: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
