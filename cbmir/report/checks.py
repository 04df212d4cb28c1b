"""What `cbmir manifest check` found, for the report's page."""

from __future__ import annotations

from typing import Any

from cbmir.report.pictures import thumbnails
from cbmir.report.places import bare, hidden, veiled
from cbmir.report.sources import Sources
from cbmir.select import attach

_GROUPS, _PICTURES, _ROWS = 6, 4, 30  # shown of copies; of the rows of each problem
_SIZES = 60  # rows of the table of sizes
_OF_PATIENTS = ("patients_across_splits",)  # whose rows are ids of patients: a report counts them and names none
_SHOWN = ("near_duplicates_across_splits", "exact_duplicates_across_splits", "near_duplicates", "exact_duplicates")


def inspection(sources: Sources) -> dict[str, Any] | None:
    """Counts, the first rows of each problem, groups of copies as pictures, and image sizes; None where nothing was checked since the manifest was made."""
    run = sources.study.run_of("problems")
    if run is None or run["inputs"]["manifest"] != sources.manifest_run["fingerprint"]:
        return None
    connection = sources.connection
    attach(connection, "problems", sources.study, sources.study.files("problems"))
    attach(connection, "facts", sources.study, sources.study.files("image_facts"))
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW images AS SELECT m.*, f.* EXCLUDE (image_key, uri) FROM manifest AS m "
        "JOIN (SELECT DISTINCT ON (image_key, uri) * FROM facts) AS f USING (image_key, uri)"
    )
    rows, sizes = sources.rows("problem_rows", n=_ROWS), sources.rows("image_sizes")
    clean = hidden if sources.has_hashed_ids else veiled
    summary = []
    for entry in run["summary"]:
        named = entry["problem"] not in _OF_PATIENTS
        mine = [clean(row["detail"]) for row in rows if named and row["problem"] == entry["problem"]]
        summary.append({**entry, "name": entry["problem"].replace("_", " "), "rows": mine})
    return {
        "summary": summary, "parameters": run["parameters"], "images": run["images"], "failed": run["failed"],
        "sizes": sizes[:_SIZES], "sizes_left": max(0, len(sizes) - _SIZES), "copies": _copies(sources, run),
    }  # fmt: skip


def _copies(sources: Sources, run: dict[str, Any]) -> dict[str, Any] | None:
    """The first groups of the worst kind of copies that there is, as pictures."""
    counts = {entry["problem"]: entry["groups"] for entry in run["summary"] if entry["count"]}
    kind = next((name for name in _SHOWN if name in counts), None)
    if kind is None:
        return None
    groups: dict[int, list[dict[str, Any]]] = {}
    rows = sources.rows("copies", problem=kind, groups=_GROUPS, pictures=_PICTURES)
    pictures = thumbnails(row["uri"] for row in rows)
    for row in rows:
        shown = row | {"image_id": bare(row["image_id"]), "picture": pictures[row["uri"]]}
        groups.setdefault(row["group_id"], []).append(shown)
    return {
        "name": kind.replace("_", " "),
        "groups": list(groups.values()),
        "count": counts[kind] or 0,
        "most": _PICTURES,
    }
