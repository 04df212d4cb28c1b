"""What is still to embed, as files that Ray's read tasks take one each."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from cbmir.select import to_do
from cbmir.store import Study, path_name

MOST_TASKS = 2_000  # so that the driver's memory does not grow with the collection
SCHEMA = pa.schema([("image_key", pa.int64()), ("uri", pa.string()), ("need", pa.int64())])


@dataclass(frozen=True)
class Addresses:
    """Parquet files of (image_key, uri, need) in the study's staging directory."""

    files: list[str]
    rows: int


def write_addresses(study: Study, encoders: list[str], attempt: str, *, least_rows: int) -> Addresses:
    """Write the manifest minus what is there, in at most about MOST_TASKS files of `least_rows` rows or more."""
    total = study.require("manifest")["rows"]
    rows_per_file = max(least_rows, -(-total // MOST_TASKS))
    rows, files = 0, []
    for i, batch in enumerate(to_do(study, encoders, rows=rows_per_file)):
        parts = (*staging(attempt), f"part-{i:05d}.parquet")
        study.write_table(pa.Table.from_batches([batch]).cast(SCHEMA), *parts)
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
