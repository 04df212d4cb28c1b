"""The order of the label columns of split files, which decides between labels with equal scores."""

from __future__ import annotations

from cbmir.select import attach_manifest, connect
from cbmir.store import Study


def label_order(study: Study) -> tuple[list[str], bool]:
    """(every label, in the order of the columns that the manifest was read from; whether the manifest knows that order).

    Source denner-csv keeps it in the manifest's run.json. Labels that it does not have follow in alphabetical order: all of them for other sources.
    """
    known = study.require("manifest").get("label_order") or []
    connection = connect()
    attach_manifest(connection, study)
    found = connection.execute("SELECT DISTINCT unnest(labels) FROM manifest ORDER BY 1").fetchall()
    there = set(known)
    return [*known, *(label for (label,) in found if label not in there)], bool(known)
