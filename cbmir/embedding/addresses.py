"""What is still to embed, as files that Ray's read tasks take one each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from cbmir.errors import UserError
from cbmir.select import Ledger, to_do, to_do_packed
from cbmir.store import Study, path_name

MOST_TASKS = 2_000  # so that the driver's memory does not grow with the collection
SCHEMA = pa.schema(
    [
        ("image_key", pa.int64()),
        ("uri", pa.string()),
        ("need", pa.int64()),
        # of packed images alone
        ("shard", pa.string()),
        ("stage", pa.string()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Addresses:
    """Parquet files of image_key, uri, need ... in the study's staging directory."""

    files: list[str]
    rows: int


def write_addresses(
    study: Study, encoders: list[str], attempt: str, *, least_rows: int, packed: bool = False
) -> Addresses:
    """Write the manifest minus what is there, in at most about MOST_TASKS files of `least_rows` rows or more.

    packed: with the shards in which the images lie, instead of their own files (`to_do_packed`).
    """
    rows = max(least_rows, -(-study.require("manifest")["rows"] // MOST_TASKS))
    batches = to_do_packed(study, encoders, rows=rows) if packed else to_do(study, encoders, rows=rows)
    return write_parts(study, staging(attempt), batches)


def write_parts(study: Study, directory: tuple[str, ...], batches: Iterable[pa.RecordBatch]) -> Addresses:
    """Each batch as a file of its own."""
    rows, files = 0, []
    for i, batch in enumerate(batches):
        parts = (*directory, f"part-{i:05d}.parquet")
        schema = pa.schema([SCHEMA.field(name) for name in batch.schema.names])
        study.write_table(pa.Table.from_batches([batch]).cast(schema), *parts)
        rows += batch.num_rows
        files.append(study.path(*parts))
    return Addresses(files, rows)


def staging(attempt: str) -> tuple[str, str]:
    """Where one attempt's addresses lie."""
    return ".staging", f"todo-{attempt}"


def sweep(study: Study) -> None:
    """Remove the addresses of killed runs: those whose attempt no encoder's started.json names any more."""
    running = set()
    for encoder in study.names("embeddings"):
        directory = f"encoder={path_name(encoder)}"
        started = study.read_json("embeddings", directory, "started.json")
        if started and study.run_of("embeddings", directory) is None:
            running.add(f"todo-{started['attempt']}")
    for name in study.names(".staging"):
        if name.startswith("todo-") and name not in running:
            study.delete(".staging", name)


def refuse_if_superseded(study: Study, parts: tuple[str, ...], attempt: str, what: str) -> None:
    """A task that outlived its killed run must not write into the run that followed it."""
    started = study.read_json(*parts, "started.json")
    if started is None or started["attempt"] != attempt:
        raise UserError(f"another run has taken over {what}; this one stops")


def sweep_debris(study: Study, ledger: Ledger) -> None:
    """Remove half-written files of killed runs."""
    for parts in ledger:
        for path in study.files(*parts, suffix=""):
            if ".parquet.tmp-" in path or ".json.tmp-" in path:
                study.fs.delete_file(path)
