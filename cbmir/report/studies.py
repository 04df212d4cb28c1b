"""The sections of the report that charts stand in: drawing, sentence, table, and the statement that gives the table."""

from __future__ import annotations

from typing import Any

from cbmir.report.charts.words import number, several
from cbmir.report.drawn import Asked, Drawn, without_header
from cbmir.sql_files import read
from cbmir.store import Study

MOST_ROWS = 2_000  # of a table on the page
_SECTIONS = (  # id, title, charts
    ("curves", "P@k along the list", ("precision_at_every_k",)),
    ("levels", "Anatomy and pathology", ("anatomy_and_pathology",)),
    ("intervals", "Encoders and intervals", ("leaderboard_forest",)),
    (
        "index-size",
        "Index size",
        ("index_size", "index_size_anatomy", "index_size_by_prevalence", "index_size_by_label", "index_size_costs"),
    ),
    ("search-effort", "Search effort", ("search_effort", "search_effort_by_expansion")),
    ("image-size", "Image size", ("image_size",)),
)
_NAMED = 8  # labels in the sentence about those that vanish


def sections(study: Study) -> list[dict[str, Any]]:
    """What studies.html.j2 shows: a section where its datasets are finished and not outdated."""
    asked = Asked(study)
    found = []
    for name, title, charts in _SECTIONS:
        shown: list[dict[str, Any]] = []
        for drawn in asked.charts(*charts):
            shown.append(_figure(drawn, told=any(before["statement"] == drawn.statement for before in shown)))
        if shown:
            gone = vanished(asked) if name == "index-size" else None
            found.append({"id": name, "title": title, "charts": shown, "vanished": gone})
    return found


def _figure(drawn: Drawn, *, told: bool) -> dict[str, Any]:
    """told: whether its table stands below an earlier chart of the section."""
    chart, table = drawn.chart, None if told else drawn.table
    return {
        "name": chart.name, "title": chart.title, "note": chart.note, "sentence": drawn.sentence, "svg": drawn.on_page(),
        "table": table, "rows": table.rows[:MOST_ROWS] if table else [], "left_out": max(0, len(table.rows) - MOST_ROWS) if table else 0,
        "statement": drawn.statement,
    }  # fmt: skip


def vanished(asked: Asked) -> dict[str, Any] | None:
    """Labels with nothing to find in small samples: a sentence with their number, and all of them as a table; None where there are none."""
    rows = asked.rows("vanished_labels") if asked.has("scaling", "vanished") else []
    if not rows:
        return None
    return {"sentence": _told(rows), "rows": rows[:MOST_ROWS], "left_out": max(0, len(rows) - MOST_ROWS),
            "statement": without_header(read("report", "vanished_labels"))}  # fmt: skip


def _told(rows: list[dict[str, Any]]) -> str:
    """How many labels have nothing to find in samples of the smallest size, and at which size the last of them is found."""
    first = min(rows, key=lambda row: (row["encoder"], row["sampling"]))
    mine = [row for row in rows if (row["encoder"], row["sampling"]) == (first["encoder"], first["sampling"])]
    least, most = (pick(row["gallery_size"] for row in mine) for pick in (min, max))
    here = [row for row in mine if row["gallery_size"] == least]
    gone = sorted(row["label"] for row in here if row["gone"])
    queries = here[0]["n_vanished"]
    left = (
        "every query is"
        if queries is None
        else "1 query a sample is"
        if queries == 1
        else f"{number(queries)} queries a sample are"
    )
    names = gone if len(gone) <= _NAMED else [*gone[:_NAMED], f"{len(gone) - _NAMED:,} more"]
    words = f"{len(gone):,} {'label has' if len(gone) == 1 else 'labels have'} nothing to find in at least one sample of {least:,} images"
    said = (
        f"{words} ({several(names)})"
        if gone
        else f"Every label has something to find in every sample of {least:,} images"
    )
    said += f"; {left} left out of the figures there, because nothing that is relevant to them is in it"
    return said + (f". The largest samples that leave any out have {most:,} images." if most > least else ".")
