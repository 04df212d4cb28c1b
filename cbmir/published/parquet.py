"""Parquet with a column of vectors and a column of keys: what cbmir writes itself, and what many others do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from cbmir.errors import UserError, nearest
from cbmir.published.batch import BATCH, Batch, batched, checked

KEYS = ("image_key", "filepath", "image_path", "image_id", "path", "uri", "file_name", "filename")


def read(path: str, dim: int | None, *, key_column: str | None, vector_column: str | None) -> Iterator[Batch]:
    """A local .parquet file -> its vectors, a part of a row group at a time."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is no Parquet file ({' '.join(str(error).split())[:120]}); expected keys and vectors"
        ) from None
    with file:
        schema = file.schema_arrow
        key = _key(schema, key_column, path)
        vector = _vector(schema, vector_column, path)
        for block in file.iter_batches(batch_size=BATCH, columns=[key, vector]):
            found = _batch(block.column(key), block.column(vector), dim)
            dim = dim or (found.vectors.shape[1] if len(found.vectors) else None)
            yield found


def _key(schema: pa.Schema, asked: str | None, path: str) -> str:
    if asked:
        if asked in schema.names:
            return asked
        raise UserError(
            f"--key-column {asked}: {path} has no such column; {nearest(asked, schema.names) or 'columns: ' + ', '.join(schema.names)}"
        )
    found = next((name for name in KEYS if name in schema.names), None)
    if found is None:
        raise UserError(
            f"{path} has no column {', '.join(KEYS[:4])} ...; found: {', '.join(schema.names)}; name one with --key-column"
        )
    return found


def _vector(schema: pa.Schema, asked: str | None, path: str) -> str:
    lists = [f.name for f in schema if (pat.is_list(f.type) or pat.is_large_list(f.type) or pat.is_fixed_size_list(f.type)) and pat.is_floating(f.type.value_type)]  # fmt: skip
    if asked:
        if asked in lists:
            return asked
        raise UserError(f"--vector-column {asked}: no column of vectors in {path}; found: {', '.join(lists) or 'none'}")
    if len(lists) != 1:
        raise UserError(
            f"{path} has {len(lists)} columns of vectors ({', '.join(lists)}); expected one; name it with --vector-column"
        )
    return lists[0]


def _batch(keys: pa.Array, lists: pa.Array, dim: int | None) -> Batch:
    names = keys.to_numpy(zero_copy_only=False).astype(np.int64) if pat.is_integer(keys.type) and not keys.null_count else keys.cast(pa.string()).to_pylist()  # fmt: skip
    lengths = pc.list_value_length(lists)
    one = pc.unique(lengths)
    whole = (
        lists.null_count == 0
        and len(one) == 1
        and one[0].as_py()
        and None not in (names if isinstance(names, list) else ())
    )
    values = lists.flatten() if whole else None
    if whole and values.null_count == 0:
        matrix = np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(lists), -1)
        return checked(names, matrix, dim)
    return next(batched(_pairs(names, lists), dim), Batch([], np.zeros((0, dim or 1), np.float32)))


def _pairs(names, lists: pa.Array) -> Iterator[tuple[str, np.ndarray | str]]:
    """Row by row, for blocks in which something is odd."""
    for name, row in zip(names, lists, strict=True):
        if name is None:
            continue
        values = row.as_py()
        if values is None or None in values:
            yield name, "no vector" if values is None else "a vector with holes"
        else:
            yield name, np.asarray(values, np.float64)
