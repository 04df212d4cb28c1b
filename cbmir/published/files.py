"""What a person names -> files to read, each with its layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cbmir.errors import UserError
from cbmir.published import hdf5, npy, parquet
from cbmir.published.batch import Batch

_HDF5 = (".h5", ".hdf5", ".hdf")


def find(arguments: list[str]) -> list[str]:
    """Files as named; directories as the vector files in them (img_emb/*.npy of clip-retrieval, else .h5, else .parquet)."""
    files: list[str] = []
    for argument in arguments:
        if "://" in argument:
            raise UserError(f"{argument}: published vectors are read from a disk; copy the file there first")
        if os.path.isdir(argument):
            files += _inside(argument)
        elif os.path.isfile(argument):
            files.append(argument)
        else:
            raise UserError(f"no file {argument}; expected .h5, .npy or .parquet")
    real = [os.path.realpath(file) for file in files]
    twice = next((file for file, path in zip(files, real, strict=True) if real.count(path) > 1), None)
    if twice:
        raise UserError(f"{twice} is named twice; expected each file once")
    return files


def _inside(directory: str) -> list[str]:
    root = Path(directory)
    for pattern in ("img_emb/*.npy", "*.npy", "*.h5", "*.parquet"):
        found = sorted(root.glob(pattern), key=lambda path: (len(path.name), path.name))
        if found:
            return [str(path) for path in found]
    raise UserError(f"no .npy, .h5 or .parquet file in {directory}; expected published vectors")


def read(path: str, dim: int | None, *, key_column: str | None, vector_column: str | None) -> Iterator[Batch]:
    """Batches of a file, by its suffix."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _HDF5:
        return hdf5.read(path, dim)
    if suffix == ".npy":
        return npy.read(path, dim, key_column=key_column)
    if suffix in (".parquet", ".pq"):
        return parquet.read(path, dim, key_column=key_column, vector_column=vector_column)
    raise UserError(f"{path}: unknown layout '{suffix}'; expected .h5, .npy or .parquet")
