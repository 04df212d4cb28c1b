"""Where vectors land: one Parquet file an encoder and block, and one for its failures.

A file is named by its keys, so a retried task overwrites itself; it appears whole or not at all, so what is there is
the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Datasink

from cbmir.embedding.addresses import refuse_if_superseded
from cbmir.embedding.shards import GONE
from cbmir.schemas import FAILURES, block_name, check, embeddings
from cbmir.store import Study, path_name

NOT_FINITE = "the encoder's vector is not finite in the stored type"


class EmbeddingSink(Datasink):
    """Writes blocks of `EncodeBlocks` into embeddings/encoder=E and failures/encoder=E."""

    def __init__(
        self, address: str, encoders: list[str], *, attempt: str, dtype: str, rows_per_file: int, tally=None
    ) -> None:
        self.address = address
        self.encoders = encoders
        self.attempt = attempt
        self.dtype = dtype
        self.rows_per_file = rows_per_file
        self.tally = tally

    @property
    def min_rows_per_write(self) -> int:
        return self.rows_per_file

    def write(self, blocks: Iterable[pa.Table], ctx) -> None:
        study = Study(self.address)
        table = pa.concat_tables(list(blocks))
        table = table.filter(pc.fill_null(pc.not_equal(table["stage"], GONE), True))  # left to do, and the run says so
        began = time.perf_counter()
        for i, encoder in enumerate(self.encoders):
            self._write_one(study, table, i, encoder)
        if self.tally is not None:
            self.tally.wrote.remote(table.num_rows, time.perf_counter() - began)

    def _write_one(self, study: Study, table: pa.Table, i: int, encoder: str) -> None:
        rows = table.filter(pc.equal(pc.bit_wise_and(pc.shift_right(table["need"], i), 1), 1))
        if rows.num_rows == 0:
            return
        directory = f"encoder={path_name(encoder)}"
        refuse_if_superseded(study, ("embeddings", directory), self.attempt, f"embeddings of {encoder}")
        name = block_name(rows["image_key"])
        failed = pc.is_null(rows[f"embedding_{i}"])
        if self.dtype == "float16":
            failed = pc.or_(failed, _too_large(rows[f"embedding_{i}"]))
        good, bad = rows.filter(pc.invert(failed)), rows.filter(failed)
        if good.num_rows:
            vectors = _vectors(good["image_key"], good[f"embedding_{i}"], self.dtype)
            study.write_table(vectors, "embeddings", directory, name, compression="none")  # floats do not shrink
        if bad.num_rows:
            study.write_table(_failures(bad), "failures", directory, name)


def _too_large(lists: pa.ChunkedArray) -> pa.Array:
    """Rows with a value that float16 would make infinite."""
    column = lists.combine_chunks()
    values = np.nan_to_num(column.values.to_numpy(zero_copy_only=False)).reshape(-1, lists.type.list_size)
    window = values[column.offset : column.offset + len(column)]
    return pa.array(np.abs(window).max(axis=1, initial=0.0) > np.finfo(np.float16).max)


def _vectors(keys: pa.ChunkedArray, lists: pa.ChunkedArray, dtype: str) -> pa.Table:
    dim = lists.type.list_size
    contract = embeddings(dim, dtype=dtype)
    values = pc.cast(lists.combine_chunks().flatten(), contract.field("embedding").type.value_type)
    column = pa.FixedSizeListArray.from_arrays(values, type=contract.field("embedding").type)
    return check(pa.table([keys.combine_chunks(), column], schema=contract), "embeddings", contract)


def _failures(rows: pa.Table) -> pa.Table:
    stage = pc.fill_null(rows["stage"], "encode")
    error = pc.fill_null(rows["error"], NOT_FINITE)
    table = pa.table([rows["image_key"], rows["uri"], stage, error], schema=FAILURES)
    return check(table, "failures")
