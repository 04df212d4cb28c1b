"""What the report's page shows, and the templates that show it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cbmir.errors import UserError
from cbmir.report.checks import inspection
from cbmir.report.confusion import confusions
from cbmir.report.gallery import SHOWN, cases, shelves
from cbmir.report.heat import STEPS, heat_map
from cbmir.report.places import bare, hidden, veiled
from cbmir.report.provenance import datasets, definitions, questions, remarks, revisions, several_versions, versions
from cbmir.report.recipe import recipe
from cbmir.report.sources import Sources
from cbmir.report.studies import sections
from cbmir.report.tables import board, by_slice, labels, recall_depth

TEMPLATES = Path(__file__).parent / "templates"
FAILURE_ROWS = 20
FAILURE_KINDS = 60  # errors in the table that counts them
MOST_SLICES = 200  # regions, modalities or datasets in a table
MOST_BYTES = 14_500_000  # of the file: a mail takes it, and a phone opens it
SCRIPTS = ("sort.js", "filter.js", "copy.js")


def study_page(sources: Sources, *, examples: int, seed: int) -> dict[str, Any]:
    """Everything that report.html.j2 names; of a study without figures of searches, what its studies and images give."""
    rows, charts = board(sources), sections(sources.study)
    if not rows and not charts:
        raise UserError(
            "the metrics hold no figure: no query has a label, a region or a modality; expected a manifest that names at "
            "least one of them; make one with: cbmir manifest"
        )
    scored = _scored(sources, rows, examples=examples, seed=seed) if rows else {"gallery": []}
    clean = hidden if sources.has_hashed_ids else veiled
    return scored | {
        "title": _title(sources),
        "things": "volumes" if sources.is_of_volumes else "images",
        "by_slices": [s["index"] for s in main_searches(sources) if not s["is_exact"] and not s["approximate"]],
        "finished": sources.last_run.get("finished"),
        "phantoms": "phantoms" in str(sources.manifest_run["parameters"].get("source")),
        "collection": sources.rows("collection")[0],
        "unscored": sources.unscored(),
        "random": sources.random_encoders(),
        "board": rows,
        "studies": charts,
        "examples": examples,
        "seed": seed,
        "shown_neighbors": SHOWN,
        "failure_counts": _cleaned(sources.rows("failure_counts", n=FAILURE_KINDS), clean),
        "failure_rows": _cleaned(sources.rows("failure_rows", n=FAILURE_ROWS), clean),
        "inspection": inspection(sources),
        "remarks": remarks(sources),
        "datasets": datasets(sources),
        "definitions": definitions(sources),
        "versions": versions(sources),
        "several": several_versions(sources),
        "revisions": revisions(sources),
        "recipe": recipe(sources, examples=examples, seed=seed),
    }


def _title(sources: Sources) -> str:
    """The study's name; of volumes that of the study which they are in."""
    names = sources.study.root.rstrip("/").split("/")
    return f"{names[-2]}: volumes" if sources.is_of_volumes and len(names) > 1 else names[-1]


def main_searches(sources: Sources) -> list[dict[str, Any]]:
    """Those that stand for their encoders in charts."""
    return [s for s in sources.searches if s["question"] == 1 and s["turn"] == 1]


def _scored(sources: Sources, rows: list[dict[str, Any]], *, examples: int, seed: int) -> dict[str, Any]:
    """What the page shows of searches; `rows`: the leaderboard, at least one."""
    main = main_searches(sources)
    order = list(dict.fromkeys(row["encoder"] for row in rows if row["question"] == 1))
    shown = {s["encoder"]: s for s in main}
    best = shown[order[0]]
    judged = sources.rows("judged")[0]
    relevance, k = judged["relevance"], judged["k"]
    slices = _slices(sources, relevance=relevance, k=k)
    gallery, chosen = cases(sources, best, relevance=relevance, n=examples, seed=seed)
    return {
        "board": rows,
        "recall_depth": recall_depth(rows),
        "filled": {key for row in rows for key, value in row.items() if value is not None},
        "best_row": next(r for r in rows if (r["encoder"], r["index"]) == (best["encoder"], best["index"])),
        "main": best,
        "order": order,
        "shown": shown,
        "judged": judged,
        "labels": labels(sources, order[0], k=k) if relevance == "label" else None,
        "slices": _shown_slices(slices),
        "heat": heat_map(slices["label"], order) if relevance == "label" else None,
        "confusions": confusions(sources, order),
        "same_patient": sources.rows("same_patient")[0],
        "gallery": gallery,
        "chosen": chosen,
        "commands": questions(relevance=relevance, k=k),
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


def _shown_slices(slices: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Name -> {rows: in their order, those with the most queries where there are too many, left_out}; labels have tables of their own."""
    found = {}
    for name in ("region", "modality", "dataset"):
        rows = slices[name]
        kept = {row["slice"] for row in sorted(rows, key=lambda row: (-row["n_queries"], row["slice"]))[:MOST_SLICES]}
        found[name] = {"rows": [row for row in rows if row["slice"] in kept], "left_out": len(rows) - len(kept)}
    return found


def _cleaned(rows: list[dict[str, Any]], clean: Callable[[str], str]) -> list[dict[str, Any]]:
    """Rows with what their errors say without places; other columns are names that the study gave."""
    shown = {"error": lambda text: clean(text or ""), "image_id": bare}
    return [row | {name: change(row[name]) for name, change in shown.items() if name in row} for row in rows]


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
        "parts": parts,
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


def parts(number: float) -> str:
    """A count in which queries may be shared: 12345.0 -> '12,345', 2.5 -> '2.5', 1 / 3 -> '0.3333'."""
    return f"{number:,.0f}" if number >= 999.5 else f"{number:.4g}"


def breaks(name: str) -> str:
    """'a:b_c' -> the same text as HTML that may break after ':', '_', '/' and '~'."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(piece) for piece in re.split(r"(?<=[:_/~])", name))


def date(moment: str) -> str:
    """'2026-11-20T23:54:50Z' -> '2026-11-20 23:54 UTC'."""
    return f"{moment[:10]} {moment[11:16]} UTC"
