"""What the report's page shows, and the templates that show it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from cbmir.errors import UserError
from cbmir.report.checks import inspection
from cbmir.report.confusion import confusions
from cbmir.report.gallery import SHOWN, cases, shelves
from cbmir.report.heat import STEPS, heat_map
from cbmir.report.provenance import datasets, definitions, questions, remarks, revisions, several_versions, versions
from cbmir.report.recipe import recipe
from cbmir.report.sources import Sources, bare
from cbmir.report.studies import sections
from cbmir.report.tables import board, by_slice, labels, recall_depth

TEMPLATES = Path(__file__).parent / "templates"
FAILURE_ROWS = 20
MOST_BYTES = 14_500_000  # of the file: a mail takes it, and a phone opens it
SCRIPTS = ("sort.js", "filter.js", "copy.js")


def study_page(sources: Sources, *, examples: int, seed: int) -> dict[str, Any]:
    """Everything that report.html.j2 names."""
    rows = board(sources)
    if not rows:
        raise UserError(
            "the metrics hold no figure: no query has a label, a region or a modality; expected a manifest that names at "
            "least one of them; make one with: cbmir manifest"
        )
    main = [s for s in sources.searches if s["question"] == 1 and s["turn"] == 1]
    order = list(dict.fromkeys(row["encoder"] for row in rows if row["question"] == 1))
    shown = {s["encoder"]: s for s in main}
    best = shown[order[0]]
    judged = sources.rows("judged")[0]
    relevance, k = judged["relevance"], judged["k"]
    slices = _slices(sources, relevance=relevance, k=k)
    gallery, chosen = cases(sources, best, relevance=relevance, n=examples, seed=seed)
    return {
        "title": os.path.basename(sources.study.root.rstrip("/")),
        "finished": sources.metrics_run["finished"],
        "phantoms": "phantoms" in str(sources.manifest_run["parameters"].get("source")),
        "collection": sources.rows("collection")[0],
        "unscored": sources.unscored(),
        "random": sources.random_encoders(),
        "board": rows,
        "recall_depth": recall_depth(rows),
        "filled": {key for row in rows for key, value in row.items() if value is not None},
        "best_row": next(r for r in rows if (r["encoder"], r["index"]) == (best["encoder"], best["index"])),
        "main": best,
        "order": order,
        "shown": shown,
        "judged": judged,
        "studies": sections(sources.study),
        "labels": labels(sources, order[0], k=k) if relevance == "label" else None,
        "slices": slices,
        "heat": heat_map(slices["label"], order) if relevance == "label" else None,
        "confusions": confusions(sources, order),
        "same_patient": sources.rows("same_patient")[0],
        "gallery": gallery,
        "chosen": chosen,
        "examples": examples,
        "seed": seed,
        "shown_neighbors": SHOWN,
        "failure_counts": _without_paths(sources.rows("failure_counts")),
        "failure_rows": _without_paths(sources.rows("failure_rows", n=FAILURE_ROWS)),
        "inspection": inspection(sources),
        "remarks": _without_paths(remarks(sources)),
        "datasets": datasets(sources),
        "definitions": definitions(sources),
        "commands": questions(relevance=relevance, k=k),
        "versions": versions(sources),
        "several": several_versions(sources),
        "revisions": revisions(sources),
        "recipe": recipe(sources, examples=examples, seed=seed),
    }


def bounded(template: str, context: dict[str, Any]) -> bytes:
    """The page as a file of at most MOST_BYTES: queries of the gallery are left out from the last on, and the page says how many."""
    page = render(template, **context).encode()
    over = len(page) - MOST_BYTES
    if over <= 0:
        return page
    room = sum(case["bytes"] for case in context["gallery"]) - over
    return render(template, **context | {"gallery": _fitting(context["gallery"], room)}).encode()


def _fitting(gallery: list[dict[str, Any]], room: int) -> list[dict[str, Any]]:
    """The first cases whose pictures come to at most `room` bytes."""
    kept = []
    for case in gallery:
        room -= case["bytes"]
        if room < 0:
            break
        kept.append(case)
    return kept


def _slices(sources: Sources, *, relevance: str, k: int) -> dict[str, list[dict[str, Any]]]:
    """The tables by slice; by dataset only where there are several."""
    found = {
        name: by_slice(sources, name, relevance=relevance, k=k) for name in ("label", "region", "modality", "dataset")
    }
    return found | ({"dataset": []} if len(found["dataset"]) < 2 else {})


def _without_paths(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: bare(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]


def render(template: str, **context: Any) -> str:
    """A template as HTML; everything that is not the template's own text is escaped."""
    return _environment().get_template(template).render(**context)


@cache
def _environment():
    import jinja2

    script = "\n".join((TEMPLATES / name).read_text().strip() for name in SCRIPTS)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shelves": shelves,
        "whole": whole,
        "pct": percent,
        "count": count,
        "date": date,
        "breaks": breaks,
    }
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": script,
        "script_digest": digest,
        "ramp": range(STEPS),
    }  # the page's policy lets only this script run
    return environment


def percent(share: float | None) -> str:
    """0.6234 -> '62.3'; None -> '–'."""
    return "–" if share is None else f"{100 * share:.1f}"


def whole(share: float | None) -> str:
    """0.6234 -> '62', 0.001 -> '<1'; None and 0 -> ''."""
    return "" if not share else "<1" if share < 0.005 else f"{100 * share:.0f}"


def count(number: int | None) -> str:
    """1600000 -> '1,600,000'."""
    return "–" if number is None else f"{number:,}"


def breaks(name: str) -> str:
    """'a:b_c' -> the same text as HTML that may break after ':', '_', '/' and '~'."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(piece) for piece in re.split(r"(?<=[:_/~])", name))


def date(moment: str) -> str:
    """'2026-11-20T23:54:50Z' -> '2026-11-20 23:54 UTC'."""
    return f"{moment[:10]} {moment[11:16]} UTC"
