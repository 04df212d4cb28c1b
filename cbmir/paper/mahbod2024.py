"""The layout of Mahbod et al. 2024: for each set of MedMNIST, image size and encoder by five metrics."""

from __future__ import annotations

from typing import Any

from cbmir.paper.comparable import comparable, sets_here, why_no_sizes
from cbmir.paper.tex import DASH, Table, escape, marked
from cbmir.references import papers, published, weights_notes
from cbmir.report.sources import Sources

NAME = "mahbod2024"
_DISTANCES = {"l2": "Euclidean distance", "cos": "cosine distance", "ip": "inner product"}


def tables(sources: Sources) -> list[Table] | str:
    """A table for each set of the study that the paper has, or why there is none."""
    figures = published().filter(_of(NAME)).to_pylist()
    sets = sets_here(sources, _once(figures, "dataset"))
    if not sets:
        return f"the study has no images of {', '.join(_once(figures, 'dataset'))}"
    sources.connection.register("published", published())
    sources.connection.register("comparable", comparable(sources, sets))
    asked = {"encoders": _once(figures, "encoder"), "metrics": _once(figures, "printed_metric")}
    made = []
    for printed in dict.fromkeys(here.printed for here in sets):
        rows = sources.rows("mahbod2024", dataset=printed, **asked)
        why = {here.why_not for here in sets if here.printed == printed} - {None}
        made.append(_table(printed, rows, asked["metrics"], sorted(why)))
        if reason := why_no_sizes(sources):
            made[-1].notes[" sizes"] = (
                f"Figures of images that were brought to other sizes are left out: {escape(reason)}."
            )
    return made


def _of(paper: str):
    import pyarrow.compute as pc

    return pc.field("paper") == paper


def _once(rows: list[dict[str, Any]], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _table(printed: str, rows: list[dict[str, Any]], metrics: list[str], why: list[str]) -> Table:
    notes = _Notes()
    lines: dict[tuple[int, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["image_size"], row["encoder"]), {})[row["printed_metric"]] = row
    body, before = [], None
    for (size, encoder), line in lines.items():
        body += [None] if before not in (None, size) else []
        body.append(
            [str(size) if size != before else "", _encoder(encoder, line, notes), *_cells(line, metrics, notes)]
        )
        before = size
    heads = [[("", 2), *((escape(metric), 3) for metric in metrics)]]
    heads.append([("size", 1), ("encoder", 1), *[("publ.", 1), ("ours", 1), ("diff.", 1)] * len(metrics)])
    caption = (
        rf"{escape(printed)} in the layout of \cite{{{NAME}}}: image size in pixels, encoders, and figures in percent ({escape(papers()[NAME].taken_from)}), "
        "beside ours and the difference in points."
    )
    return Table(
        f"{NAME}_{printed.lower()}", caption, "rl" + "rrr" * len(metrics), heads, body, _all_notes(rows, notes, why)
    )


def _encoder(encoder: str, line: dict[str, dict[str, Any]], notes: _Notes) -> str:
    """The printed name; marked where ours has other weights."""
    other = weights_notes(NAME).get(encoder)
    there = any(row["ours"] is not None for row in line.values())
    return marked(escape(encoder), *([notes.mark(escape(other) + ".")] if other and there else []))


def _cells(line: dict[str, dict[str, Any]], metrics: list[str], notes: _Notes) -> list[str]:
    cells = []
    for metric in metrics:
        row = line[metric]
        theirs = DASH if row["published"] is None else f"{100 * row['published']:.2f}"
        ours = DASH if row["ours"] is None else f"{100 * row['ours']:.2f}"
        if row["remark"]:
            ours = marked(ours, notes.mark(f"Ours: {escape(row['remark'])}."))
        apart = DASH if row["difference"] is None else f"{100 * row['difference']:+z.2f}"
        odd = [notes.mark(_odd(row))] if row["note"] else []
        cells += [marked(theirs, *odd), ours, apart]
    return cells


def _odd(row: dict[str, Any]) -> str:
    """What is odd about a published figure."""
    printed = f"printed as {row['printed']}: " if row["printed"] else ""
    return f"{escape(printed + row['note'])}."


class _Notes:
    """Notes by letters, in the order in which they are needed; equal ones share a letter."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def mark(self, text: str) -> str:
        return self.texts.setdefault(text, chr(ord("a") + len(self.texts)))


def _all_notes(rows: list[dict[str, Any]], notes: _Notes, why: list[str]) -> dict[str, str]:
    found = {letter: text for text, letter in notes.texts.items()}
    if any(row["ours"] is None for row in rows):
        found[" dash"] = (
            "A dash among ours: no exact search by this encoder of all test images among all training images of this set, at this size, nothing else in "
            "the gallery and nothing passed over."
        )
    if why:
        found[" why"] = f"Ours cannot stand beside the published: {escape('; '.join(why))}."
    distances = sorted({_DISTANCES[row["distance"]] for row in rows if row["distance"]})
    if distances:
        found[" distance"] = (
            f"Ours: exact search by {' and '.join(distances)}; the published code searches by Euclidean distance."
        )
    if any(row["ours"] is not None and row["image_size"] == 28 for row in rows):
        found[" 28"] = (
            "The published code enlarges images of 28 pixels to 32 for some encoders; which of the rows are of these is not known."
        )
    return found
