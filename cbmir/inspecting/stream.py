"""Images that have not been looked at yet, through Ray Data."""

from __future__ import annotations

import uuid

import pyarrow as pa

from cbmir.cluster import map_files
from cbmir.inspecting.look import look
from cbmir.progress import Progress
from cbmir.select import attach, attach_manifest, connect
from cbmir.store import Study

_MOST_FILES = 2_000  # so that the driver's memory does not grow with the collection
_LEAST_ROWS = 128


def todo(study: Study) -> tuple[list[str], int]:
    """Write the addresses that no file of image_facts has (by key and address) -> (files, rows)."""
    sweep(study)
    connection = connect()
    attach_manifest(connection, study)
    files = study.files("image_facts")
    if files:
        attach(connection, "done", study, files, columns=["image_key", "uri"])
    query = "SELECT image_key, uri FROM manifest" + (" ANTI JOIN done USING (image_key, uri)" if files else "")
    total = connection.execute("SELECT count(*) FROM manifest").fetchall()[0][0]
    rows_per_file = max(_LEAST_ROWS, -(-total // _MOST_FILES))
    attempt, rows, paths = uuid.uuid4().hex, 0, []
    for i, batch in enumerate(connection.sql(query).to_arrow_reader(rows_per_file)):
        parts = (".staging", f"inspect-{attempt}", f"part-{i:05d}.parquet")
        study.write_table(pa.Table.from_batches([batch]), *parts)
        paths.append(study.path(*parts))
        rows += batch.num_rows
    return paths, rows


def sweep(study: Study) -> None:
    """Remove the lists of inspections that are over."""
    for name in study.names(".staging"):
        if name.startswith("inspect-"):
            study.delete(".staging", name)


def run(study: Study, files: list[str], rows: int) -> None:
    """Look at every image of the lists; what is written is the checkpoint."""
    address = study.address if not study.is_local else study.root
    done = failed = 0
    with Progress("check", rows) as progress:
        for batch in map_files(files, study.fs, look, cpus=0.5, address=address):
            done += sum(batch["rows"].to_pylist())
            failed += sum(batch["failed"].to_pylist())
            progress.update(done, failed)
