"""Stage: look at every image of the manifest, and say in SQL what would spoil a study: missing and broken files, copies, patients in two splits, rare labels.

What was found of an image is a row of `image_facts`, written as soon as its block is done, so that a killed check goes on where it stopped; the statements under
sql/inspection make `problems` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.cluster import ray_session
from cbmir.errors import UserError
from cbmir.inspecting import stream
from cbmir.inspecting.alike import MOST_DISTANCE, hash_groups
from cbmir.schemas import PROBLEMS
from cbmir.select import attach, attach_manifest, connect, keys_where
from cbmir.sql_files import bind, names, read
from cbmir.store import Publication, Study, run_record

_ROWS = 20_000  # of a file of problems
_MEMORY = "512MB"  # of the statements; what is larger goes to the temporary directory


@dataclass(frozen=True)
class InspectionOptions:
    """What counts as a problem; only `overwrite` looks at images again."""

    k: int = 10  # labels with fewer gallery images are rare
    gallery: str = "split = 'train'"
    distance: int = 2  # bits of the perceptual hash in which near-duplicates may differ
    ray_address: str | None = None
    overwrite: bool = False

    def refuse_nonsense(self) -> None:
        if self.k < 1:
            raise UserError(f"-k {self.k}; expected 1 or more")
        if not 0 <= self.distance <= MOST_DISTANCE:
            raise UserError(f"--distance {self.distance}; expected 0 to {MOST_DISTANCE}")


def inspect(study: Study, options: InspectionOptions, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Look at what has not been looked at, then find the problems -> run.json of `problems`. `say` takes the lines for people."""
    options.refuse_nonsense()
    manifest = study.require("manifest")
    gallery = keys_where(study, options.gallery, role="gallery")
    if options.overwrite:
        study.delete("image_facts")
        study.delete("problems")
    looked = _look(study, options, manifest)
    run = _problems(study, options, manifest, gallery)
    say(f"check: {run['images']:,} images, {looked:,} of them looked at now, {run['failed']:,} cannot be used")
    for line in table(run):
        say(line)
    say(f'all of them: cbmir sql --study {study.address} "SELECT * FROM problems"')
    return run


def _look(study: Study, options: InspectionOptions, manifest: dict[str, Any]) -> int:
    """Look at the images that are new -> how many they were."""
    files, rows = stream.todo(study)
    try:
        if rows:
            study.delete("image_facts", "run.json")
            with ray_session(options.ray_address):
                stream.run(study, files, rows)
    finally:
        stream.sweep(study)
    if rows or study.run_of("image_facts") is None:
        record = run_record("look", parameters={}, inputs={"manifest": manifest["fingerprint"]}, rows=manifest["rows"])
        study.write_json(record, "image_facts", "run.json")
    return rows


def attach_images(connection: duckdb.DuckDBPyConnection, study: Study) -> None:
    """View `images`: the manifest, each row with what was found of its image.

    A block that a killed check left may be written twice, and an image may have moved since: then, and only then, rows are compared and
    kept in memory; otherwise each statement reads the columns that it needs.
    """
    attach_manifest(connection, study)
    attach(connection, "facts", study, study.files("image_facts"))
    rows, facts = connection.execute("SELECT (SELECT count(*) FROM manifest), (SELECT count(*) FROM facts)").fetchall()[
        0
    ]
    source = "facts"
    if rows != facts:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE once AS SELECT DISTINCT ON (image_key) f.* FROM facts AS f JOIN manifest USING (image_key, uri)"
        )
        source = "once"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW images AS SELECT m.*, f.* EXCLUDE (image_key, uri) FROM manifest AS m JOIN {source} AS f USING (image_key)"
    )


def _problems(study: Study, options: InspectionOptions, manifest: dict[str, Any], gallery: pa.Table) -> dict[str, Any]:
    parameters = {"k": options.k, "gallery": options.gallery, "distance": options.distance}
    connection = connect()
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    connection.execute("SET threads = 1")  # each thread has hash tables of its own
    attach_images(connection, study)
    images, failed = connection.execute("SELECT count(*), count(stage) FROM images").fetchall()[0]
    if images != manifest["rows"]:
        raise RuntimeError(
            f"{manifest['rows'] - images:,} images were lost on the way; run the same command again to look at them"
        )
    connection.register("gallery", gallery)
    hashes = connection.sql(
        "SELECT DISTINCT perceptual_hash AS h FROM images WHERE h IS NOT NULL ORDER BY h"
    ).to_arrow_table()
    connection.register("hash_groups", hash_groups(connection, hashes["h"].to_numpy(), distance=options.distance))
    with study.publishing("problems") as out:
        summary = [_write_problem(out, connection, name, options.k) for name in names("inspection")]
        out.run = run_record(
            "check", parameters=parameters, inputs={"manifest": manifest["fingerprint"]}, rows=sum(entry["count"] for entry in summary),
            images=images, failed=failed, summary=summary,
        )  # fmt: skip
    return out.run


def _write_problem(out: Publication, connection: duckdb.DuckDBPyConnection, name: str, k: int) -> dict[str, Any]:
    """Run sql/inspection/<name>.sql and write its rows, some thousand at a time -> how many rows and groups there are, and the first."""
    text = read("inspection", name)
    count, groups, first, last = 0, 0, None, None
    for part, batch in enumerate(connection.sql(text, params=bind(text, {"k": k})).to_arrow_reader(_ROWS)):
        if batch.num_rows == 0:
            continue
        problem = pa.array([name] * batch.num_rows, pa.string())
        rows = pa.table([problem, *(batch.column(c) for c in PROBLEMS.names[1:])], schema=PROBLEMS)
        out.write_table(rows, f"{name}-{part:05d}.parquet", "problems")
        first = first or rows["detail"][0].as_py()
        ids = pc.unique(
            rows["group_id"].drop_null()
        )  # ordered by group, so that only a batch's first can have been there before
        groups += len(ids) - (len(ids) > 0 and ids[0].as_py() == last)
        last = ids[-1].as_py() if len(ids) else None
        count += batch.num_rows
    if count == 0:
        out.write_table(PROBLEMS.empty_table(), f"{name}-00000.parquet", "problems")
    return {"problem": name, "count": count, "groups": groups or None, "first": first}


def table(run: dict[str, Any]) -> list[str]:
    """run.json of `problems` -> a plain table: problem, how many, how many groups of copies, the first."""
    rows = [("problem", "rows", "groups", "first")]
    for entry in run["summary"]:
        groups = "" if entry["groups"] is None else f"{entry['groups']:,}"
        rows.append((entry["problem"].replace("_", " "), f"{entry['count']:,}", groups, (entry["first"] or "-")[:90]))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
