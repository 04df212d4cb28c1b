"""P@k against the size of the gallery: mean and spread over samples, extrapolations marked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cbmir.paper.tex import DASH, Table, escape, marked, name
from cbmir.schemas import FITS
from cbmir.select import attach, connect
from cbmir.sql_files import bind, create_view, read
from cbmir.store import Study

NAME = "index_size"
KS = (1, 3, 5, 10)


def table(study: Study) -> Table | str:
    """The table, or why there is none."""
    if not study.run_of("scaling"):
        return "the study has no samples of its gallery; make them with: cbmir study index-size"
    rows = _rows(study)
    if not rows:
        return "the samples of the gallery have no P@k at relevance label"
    ks = [k for k in KS if any(row["k"] == k for row in rows)]
    averages = [average for average in ("micro", "macro") if any(row["average"] == average for row in rows)]
    lines: dict[tuple, dict[tuple, dict[str, Any]]] = {}
    for row in rows:
        key = (row["encoder"], row["index"], row["sampling"], row["is_extrapolation"], row["gallery_size"])
        lines.setdefault(key, {})[row["average"], row["k"]] = row
    body, before = [], None
    for key, line in lines.items():
        if key[:3] != before:
            body += [None] if before else []
            encoder, index, sampling = key[:3]
            body.append(f"{name(encoder)}, {name(index)}, {escape(sampling)} samples")
        body.append(_line(key[4], line, [(average, k) for average in averages for k in ks]))
        before = key[:3]
    heads = [[("", 2), *((average, len(ks)) for average in averages)]] if len(ks) > 1 else []
    heads.append([("gallery", 1), ("samples", 1), *((f"P@{k}", 1) for _ in averages for k in ks)])
    return Table(NAME, _CAPTION, "rr" + "r" * len(ks) * len(averages), heads, body, _notes(list(lines.values())))


_CAPTION = (
    r"P@$k$ in percent against the number of images in the gallery: mean $\pm$ standard deviation over nested samples, each of another seed; "
    "queries to which nothing in a sample is relevant, though something in the gallery is, are left out of that sample's mean."
)


def _rows(study: Study) -> list[dict[str, Any]]:
    connection = connect()
    attach(connection, "scaling", study, study.files("scaling"))
    if study.run_of("fits"):
        attach(connection, "fits", study, study.files("fits"))
    else:
        connection.register("fits", pa.Table.from_pylist([], schema=FITS))
    create_view(connection, "scaling_curves", "report", "scaling_curves")
    text = read("report", "index_sizes")
    return connection.sql(text, params=bind(text, {"ks": list(KS)})).to_arrow_table().to_pylist()


def _line(size: int, line: dict[tuple, dict[str, Any]], columns: list[tuple]) -> list[str]:
    extrapolated = next(iter(line.values()))["is_extrapolation"]
    seeds = DASH if extrapolated else str(max(row["n_seeds"] for row in line.values()))
    marks = ["s"] if not extrapolated and _is_the_same(line) else []
    return [
        marked(f"{size:,}", *(["e"] if extrapolated else [])),
        marked(seeds, *marks),
        *(_cell(line.get(column)) for column in columns),
    ]


def _is_the_same(line: dict[tuple, dict[str, Any]]) -> bool:
    """Whether several samples of one size gave the same figures throughout, as those do that are the whole gallery."""
    return all(row["sd"] == 0 for row in line.values())


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return DASH
    value = f"{100 * row['value']:.1f}"
    if row["is_extrapolation"]:
        known = row["ci_low"] is not None and row["ci_high"] is not None
        bounds = rf" {{\footnotesize[{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]}}" if known else ""
        return rf"\textit{{{value}}}{bounds}"
    return value + (rf" {{\footnotesize$\pm$ {100 * row['sd']:.1f}}}" if row["sd"] else "")


def _notes(lines: list[dict[tuple, dict[str, Any]]]) -> dict[str, str]:
    notes = {}
    if any(_is_the_same(line) for line in lines):
        notes["s"] = "Samples that are all the same: the whole gallery, or as good as that."
    if any(row["is_extrapolation"] for line in lines for row in line.values()):
        notes["e"] = (
            r"Extrapolated from the smaller sizes by the fitted curve, with its 95\,\% interval: no sample was as large."
        )
    return notes
