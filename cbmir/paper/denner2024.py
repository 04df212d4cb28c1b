"""The layout of Denner et al. 2024: encoders by P@1, P@3, P@5 and P@10, micro and macro."""

from __future__ import annotations

from typing import Any

from cbmir.paper.exact import NO_EXACT, standing
from cbmir.paper.tex import DASH, Table, escape, marked, name
from cbmir.references import papers, published
from cbmir.report.sources import Sources

NAME = "denner2024"
KS = (1, 3, 5, 10)
_IMAGES = {"chexpert", "mimic", "nih14", "radiology_ai"}  # datasets of the published split files
_NOT_STATED = "average not stated"


def table(sources: Sources) -> Table | str:
    """The table, or why there is none."""
    exact = standing(sources, question=1)
    if not exact:
        return NO_EXACT
    sources.connection.register("published", published())
    same = _same_images(sources)
    rows = sources.rows("denner2024", ks=list(KS), same_images=same)
    if not any(row["source"] == "study" for row in rows):
        return "the study has no figures of precision_at_k_capped at relevance label; make them with: cbmir evaluate"
    lines: dict[tuple, dict[int, dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["source"], row["encoder"], row["average"]), {})[row["k"]] = row
    ks = [k for k in KS if any(k in line for line in lines.values())]
    body, before = [], None
    for (source, encoder, average), line in lines.items():
        body += [None] if before and source != before[0] else []
        body.append(_line(source, encoder, average, line, ks, first=(source, encoder) != before))
        before = (source, encoder)
    heads = [
        [("", 2), *((f"P@{k}", 2) for k in ks)],
        [("encoder", 1), ("average", 1), *[("ours [95\\,\\%]", 1), ("published", 1)] * len(ks)],
    ]
    return Table(
        NAME, _caption(sources, next(iter(exact.values()))), "ll" + "rr" * len(ks), heads, body, _notes(rows, same)
    )


def _line(
    source: str, encoder: str, average: str | None, line: dict[int, dict[str, Any]], ks: list[int], *, first: bool
) -> list[str]:
    label = ""
    if first and source == "paper":
        label = rf"{escape(encoder)} \cite{{{NAME}}}"
    elif first:
        label = marked(name(encoder), *("*" for row in [next(iter(line.values()))] if row["random_weights"]))
    cells = [label, average or marked(_NOT_STATED, "a")]
    for k in ks:
        row = line.get(k, {})
        theirs = DASH if row.get("published") is None else f"{row['published']:.3f}"
        if source == "study" and row.get("published") is None:
            theirs = marked(DASH, "b")
        cells += [_ours(row) if source == "study" else marked(DASH, "b"), theirs]
    return cells


def _ours(row: dict[str, Any]) -> str:
    """'0.523 [0.470, 0.576]'."""
    if row.get("value") is None:
        return DASH
    low, high = row["ci_low"], row["ci_high"]
    bounds = "" if low is None or high is None else rf" {{\footnotesize[{low:.3f}, {high:.3f}]}}"
    return f"{row['value']:.3f}{bounds}"


def _caption(sources: Sources, asked: dict[str, Any]) -> str:
    """`asked`: one of the searches that the figures are of."""
    datasets = ", ".join(escape(d) for d in _datasets(sources))
    return (
        rf"Retrieval in the layout of \cite{{{NAME}}}: P@$k$ with no more places than there are relevant images, exact search. Ours: {datasets}; "
        f"{asked['queries_asked']:,} queries, {asked['gallery_embedded']:,} gallery images; in brackets the 95\\,\\% interval over patients."
    )


def _notes(rows: list[dict[str, Any]], same: bool) -> dict[str, str]:
    images = (
        "of the same images" if same else "of other images (NIH14, CheXpert, MIMIC and RadImageNet together) than ours"
    )
    notes = {
        "a": f"{escape(papers()[NAME].taken_from)}, which does not say whether the mean is micro or macro.",
        "b": f"Not comparable: the published figures are {images}, and of an average that is not stated.",
    }
    if any(row["random_weights"] for row in rows):
        notes["*"] = "Random weights: an untrained encoder, a control."
    return notes


def _datasets(sources: Sources) -> list[str]:
    return [row[0] for row in sources.connection.execute("SELECT DISTINCT dataset FROM manifest ORDER BY 1").fetchall()]


def _same_images(sources: Sources) -> bool:
    """Whether the study is of the paper's own split files, all of them: others drew other splits of the same sets."""
    is_theirs = sources.manifest_run["parameters"].get("source") == "denner-csv"
    return is_theirs and {dataset.lower() for dataset in _datasets(sources)} == _IMAGES
