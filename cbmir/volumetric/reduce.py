"""Slices' vectors -> volumes' vectors: a Ray Data stage, a batch of volumes a task; no pixel is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.cluster import ray_session
from cbmir.schemas import FAILURES, check, embeddings
from cbmir.store import Study
from cbmir.volumetric.reductions import Reduction
from cbmir.volumetric.slices import Slices

FILE_BYTES, ROW_GROUP_BYTES = 64 * 2**20, 16 * 2**20  # of vectors


@dataclass(frozen=True)
class Target:
    """One reduction, and where its vectors and failures are being written."""

    reduction: Reduction
    vectors: tuple[str, ...]
    failures: tuple[str, ...]


def reduce_volumes(
    slices: Slices, targets: Sequence[Target], *, ray_address: str | None, told: Callable[[int], None]
) -> list[tuple[int, int]]:
    """Write every target's files -> (vectors, failures) of each; told: takes how many volumes are done.

    A task writes files named by its batch, so that one that is tried again writes them over.
    """
    everything = np.unique(slices.volume)
    batches = [*slices.batches(everything), *_without(slices)]
    with ray_session(ray_address):
        import ray

        work = ray.put((slices.study.address, slices.encoder, batches, list(targets)))
        counted = ray.data.range(len(batches), override_num_blocks=max(1, len(batches))).map(_Task(work), num_cpus=1)
        done, written = 0, np.zeros((len(targets), 2), np.int64)
        for row in counted.iter_rows():
            done += len(batches[row["batch"]])
            written += np.asarray(row["written"]).reshape(-1, 2)
            told(done)
    return [tuple(map(int, pair)) for pair in written]


def _without(slices: Slices) -> list[np.ndarray]:
    """Volumes none of whose slices has a vector, as one batch."""
    rest = np.setdiff1d(slices.all_volumes, slices.volume)
    return [rest] if len(rest) else []


class _Task:
    """One batch, in a Ray task."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        address, encoder, batches, targets = ray.get(self.work)
        number = int(row["id"])
        written = write_batch(Slices(Study(address), encoder), batches[number], targets, name=f"part-{number:05d}")
        return {"batch": number, "written": [count for pair in written for count in pair]}


def write_batch(slices: Slices, volumes: np.ndarray, targets: Sequence[Target], *, name: str) -> list[tuple[int, int]]:
    """The files of one batch of volumes -> (vectors, failures) of each target."""
    loaded = slices.load(volumes[np.isin(volumes, slices.volume)])
    places = {key: (vectors, where) for key, vectors, where in loaded.each()}
    nothing = (np.zeros((0, slices.dim), np.float32), np.zeros(0, np.int64))
    totals = slices.totals(volumes)
    written = []
    for target in targets:
        kept, rows, failed = [], [], []
        for key, total in zip(volumes.tolist(), totals.tolist(), strict=True):
            vectors, where = places.get(key, nothing)
            refusal = target.reduction.refusal(where, total)
            if refusal is None:
                kept.append(key)
                rows.append(target.reduction.apply(vectors, where, total))
            else:
                failed.append({"image_key": key, "uri": slices.uri(key), "stage": "reduce", "error": refusal})
        _write(slices, target, name, kept, rows)
        if failed:
            table = pa.Table.from_pylist(failed, schema=FAILURES)
            slices.study.write_table(check(table, "failures"), *target.failures, f"{name}.parquet")
        written.append((len(kept), len(failed)))
    return written


def _write(slices: Slices, target: Target, name: str, keys: list[int], rows: list[np.ndarray]) -> None:
    """Files of FILE_BYTES at most, or of one row: readers take several files at a time into memory."""
    dim = target.reduction.dim(slices.dim)
    contract = embeddings(dim, dtype=slices.vectors.run["dtype"])
    kind = contract.field("embedding").type
    row_bytes = dim * kind.value_type.bit_width // 8
    step = max(1, FILE_BYTES // row_bytes)
    for number, start in enumerate(range(0, len(keys), step)):
        values = pa.array(np.concatenate(rows[start : start + step]).astype(kind.value_type.to_pandas_dtype()))
        columns = [
            pa.array(keys[start : start + step], pa.int64()),
            pa.FixedSizeListArray.from_arrays(values, type=kind),
        ]
        table = check(pa.table(columns, schema=contract), "embeddings", contract)
        groups = max(1, ROW_GROUP_BYTES // row_bytes)
        slices.study.write_table(table, *target.vectors, f"{name}-{number:03d}.parquet", row_group_size=groups)
