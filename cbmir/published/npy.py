"""img_emb/img_emb_0.npy beside metadata/metadata_0.parquet, as clip-retrieval writes them: row i of one belongs to row i of the other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cbmir.errors import UserError
from cbmir.published.batch import BATCH, Batch, batched, checked
from cbmir.published.parquet import _key


def read(path: str, dim: int | None, *, key_column: str | None) -> Iterator[Batch]:
    """A local .npy file (n, dim), read as far as it is needed, with the Parquet file of its keys."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        why = (
            "holds Python objects, which are never loaded"
            if "object" in str(error).lower()
            else "is no .npy file, or cut short"
        )
        raise UserError(f"{path} {why}; expected an array (n, dim) of numbers") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise UserError(f"{path} is {matrix.dtype} of shape {matrix.shape}; expected (n, dim) numbers")
    beside = metadata_of(path)
    try:
        file = pq.ParquetFile(beside)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"{beside} is no Parquet file; expected the keys of {path}") from None
    with file:
        if file.metadata.num_rows != len(matrix):
            raise UserError(
                f"{path} has {len(matrix):,} vectors and {beside} {file.metadata.num_rows:,} rows; expected as many"
            )
        key = _key(file.schema_arrow, key_column, beside)
        start = 0
        for block in file.iter_batches(batch_size=BATCH, columns=[key]):
            names = block.column(0).cast(pa.string()).to_pylist()
            values = np.asarray(matrix[start : start + len(names)])
            start += len(names)
            if None in names:
                pairs = [(n, v) for n, v in zip(names, values, strict=True) if n is not None]
                yield from batched(pairs, dim)
            else:
                yield checked(names, values, dim)


def metadata_of(path: str) -> str:
    """'img_emb/img_emb_3.npy' -> 'metadata/metadata_3.parquet' beside its folder, or in the same folder; UserError where there is none."""
    file = Path(path)
    number = re.search(r"(\d+)$", file.stem)
    names = [f"metadata_{number.group(1)}.parquet" if number else "metadata.parquet", f"{file.stem}.parquet"]
    places = [file.parent.parent / "metadata" / names[0], file.parent / names[0], file.parent / names[1]]
    for place in places:
        if place.is_file():
            return str(place)
    raise UserError(
        f"no keys for {path}; expected {' or '.join(os.path.relpath(p, file.parent) for p in places)} beside it"
    )
