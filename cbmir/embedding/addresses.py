"""What is still to embed, as files that Ray's read tasks take one each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

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


def source(addresses: Addresses, fs: pafs.FileSystem):
    """A Ray Datasource with one read task a file; reading and decoding then run in the same task."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class AddressSource(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context=None):
            metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None)
            return [ReadTask(partial(_read, file, fs), metadata) for file in addresses.files]

    return AddressSource()


def _read(file: str, fs: pafs.FileSystem) -> list[pa.Table]:
    return [pq.read_table(file, filesystem=fs)]
