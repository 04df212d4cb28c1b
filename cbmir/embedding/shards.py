"""Packed images read back, in place of the files that they were made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cbmir.images.ahead import one_ahead
from cbmir.images.errors import ImageError
from cbmir.store import Study

GONE = "gone"  # stage of an image that was packed and is no longer there, which is no failure of the image


def packed_files(address: str, block: pa.Table) -> Iterator[bytes | ImageError]:
    """For each row (image_key, shard, stage, error) of a block, in order: the packed image's bytes, or why there are none.

    Rows of a shard that stand together, in its order, as `to_do_packed` has them, are read in one go: a row group at a time, the next
    one while this one is decoded.
    """
    for some in one_ahead(_portions(Study(address), block)):
        yield from some


def _portions(study: Study, block: pa.Table) -> Iterator[list[bytes | ImageError]]:
    rows = zip(*(block[name].to_pylist() for name in ("shard", "image_key", "stage", "error")), strict=True)
    for shard, run in groupby(rows, key=lambda row: row[0]):
        if shard is None:
            yield [ImageError(error, stage=stage) for _, _, stage, error in run]
        else:
            yield from _of_shard(study, shard, deque(key for _, key, _, _ in run))


def _of_shard(study: Study, shard: str, waiting: deque[int]) -> Iterator[list[bytes | ImageError]]:
    """Images of a shard by their keys, as far as they are there after each of its row groups."""
    try:
        for held in _held(study, shard, pa.array(waiting, pa.int64())):
            ready = []
            while waiting and waiting[0] in held:
                ready.append(held.pop(waiting.popleft()))
            yield ready
    except (OSError, pa.ArrowInvalid) as error:
        yield [ImageError(str(error), stage=GONE)] * len(waiting)
        return
    yield [ImageError("it is not in its shard", stage=GONE)] * len(waiting)


def _held(study: Study, shard: str, wanted: pa.Array) -> Iterator[dict[int, bytes]]:
    """Key -> image of those wanted: the same dictionary after each row group, from which the caller takes what it needs."""
    held: dict[int, bytes] = {}
    with pq.ParquetFile(study.path("packed", shard), filesystem=study.fs, pre_buffer=True) as file:
        for group in _groups(file, wanted):
            table = file.read_row_group(group, columns=["image_key", "image"])
            table = table.filter(pc.is_in(table["image_key"], wanted))
            held |= zip(table["image_key"].to_pylist(), table["image"].to_pylist(), strict=True)
            yield held


def _groups(file: pq.ParquetFile, wanted: pa.Array) -> list[int]:
    """Row groups that hold one of the keys."""
    held = pc.is_in(file.read(columns=["image_key"])["image_key"], wanted).to_numpy()
    found, first = [], 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if held[first : first + rows].any():
            found.append(group)
        first += rows
    return found
