"""The table of Mahbod et al. 2024: five figures of each encoder at each image size, ours by both distances and beside them what the paper prints.

Their README says cosine and their code searches by Euclidean distance; the printed figures are taken for the second.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.references import papers, published, weights_notes
from cbmir.select import attach, connect
from cbmir.sql_files import bind
from cbmir.sql_files import read as statement
from cbmir.store import Study

NAME = "mahbod2024"
K = 5  # neighbors
KS = (1, 3, 5)  # of the figures
SEARCHES = {"l2": ("exact-l2", "Euclidean"), "cos": ("exact", "cosine")}  # metric -> name of its search, and in words
_ASKED = pa.schema(
    [("turn", pa.int32()), ("encoder", pa.string()), ("index", pa.string()), ("name", pa.string()), ("base", pa.string()),
     ("distance", pa.string())]
)  # fmt: skip
_LEFT = 4  # columns that are words, or nearly


@dataclass(frozen=True)
class Asked:
    """One file at one size: what was made of it, in the study that its figures lie in."""

    study: Study
    file: str
    dataset: str | None  # as the paper calls the set; None: it has no figures of it
    size: int  # pixels or voxels a side
    encoders: tuple[Encoded, ...]


@dataclass(frozen=True)
class Encoded:
    """An encoder's vectors. base: what cbmir calls what made them, None: nobody's in the paper; caveats: how they differ from the protocol."""

    encoder: str  # in the study
    name: str  # for people
    base: str | None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A share, 0 to 1, with a 95 % interval where it is ours; None: there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None  # of a printed figure: a misprint, an absent row


@dataclass(frozen=True)
class Line:
    """One line of the table. is_comparable: whether one of ours answers just what a printed line does; None: it is ours."""

    file: str
    dataset: str | None
    size: int
    encoder: str
    cbmir_encoder: str | None
    distance: str
    is_published: bool
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_comparable: bool | None = None
    n_queries: int | None = None
    n_failed: int | None = None


def metrics() -> list[str]:
    """The figures, as printed and in that order: mAP@5 ..."""
    return _once("printed_metric")


def sets() -> list[str]:
    """The sets of MedMNIST that the paper has figures of, as printed."""
    return _once("dataset")


def lines(asked: Asked) -> list[Line]:
    """The lines of one file at one size: each encoder by both distances, below it what the paper prints of it, and at the end, if one of ours is none of
    theirs, all else that it prints."""
    found = _grouped(_rows(asked), asked)
    ours = [line for line in found if not line.is_published]
    theirs = {line.cbmir_encoder: line for line in found if line.is_published}
    made: list[Line] = []
    for number, encoded in enumerate(asked.encoders):
        mine = ours[len(SEARCHES) * number : len(SEARCHES) * (number + 1)]
        other = theirs.get(encoded.base)
        caveats = encoded.caveats
        if other is not None and (differs := weights_notes(NAME).get(other.encoder)):
            caveats = (*caveats, differs)
        if not theirs:
            caveats = (*caveats, f"the paper has no figures of {asked.dataset or asked.file} at {asked.size}")
        made += [replace(line, notes=caveats) for line in mine]
        if other is not None:
            made.append(replace(other, notes=caveats, is_comparable=not caveats))
    asked_for = {encoded.base for encoded in asked.encoders}
    if not asked_for <= theirs.keys():
        rest = ("another encoder than any of ours: not comparable",)
        made += [
            replace(line, notes=rest, is_comparable=False) for base, line in theirs.items() if base not in asked_for
        ]
    return made


def _once(column: str) -> list[str]:
    mine = published().filter(pc.field("paper") == NAME)
    return pc.unique(mine[column]).to_pylist()


def _rows(asked: Asked) -> list[dict[str, Any]]:
    connection = connect()
    attach(connection, "metrics", asked.study, asked.study.files("metrics"))
    connection.register("published", published())
    searches = [
        {"turn": turn, "encoder": encoded.encoder, "name": encoded.name, "base": encoded.base, "index": index, "distance": words}
        for turn, (encoded, (index, words)) in enumerate((e, s) for e in asked.encoders for s in SEARCHES.values())
    ]  # fmt: skip
    connection.register("asked", pa.Table.from_pylist(searches, schema=_ASKED))
    text = statement("as_published", NAME)
    given = {
        "dataset": asked.dataset or "",
        "image_size": asked.size,
        "encoders": _once("encoder"),
        "metrics": metrics(),
    }
    return connection.sql(text, params=bind(text, given)).to_arrow_table().to_pylist()


def _grouped(rows: list[dict[str, Any]], asked: Asked) -> list[Line]:
    """Rows of the statement, a figure each -> lines with all figures, in its order."""
    found: dict[tuple[bool, int], Line] = {}
    for row in rows:
        line = found.setdefault(
            (row["is_published"], row["turn"]),
            Line(
                asked.file, asked.dataset, asked.size, row["encoder"], row["cbmir_encoder"], row["distance"], row["is_published"],
                n_queries=row["n_queries"], n_failed=row["n_failed"],
            ),
        )  # fmt: skip
        line.figures[row["printed_metric"]] = Figure(row["value"], row["ci_low"], row["ci_high"], _odd(row))
    return list(found.values())


def _odd(row: dict[str, Any]) -> str | None:
    """What is odd about a printed figure."""
    if not row["note"]:
        return None
    return (f"printed as {row['printed']}: " if row["printed"] else "") + row["note"]


def table_text(found: Sequence[Line]) -> str:
    """An aligned table in percent, and below it what its marks and figures mean."""
    marks: dict[str, int] = {}
    heads = ["dataset", "size", "encoder", "distance", *metrics()]
    cells = [_cells(line, marks) for line in found]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    rows = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in (heads, *cells)]
    return "\n".join([*rows, "", *(f"^{number} {text}" for text, number in marks.items()), *_said(found)])


def _cells(line: Line, marks: dict[str, int]) -> list[str]:
    def marked(text: str, *notes: str) -> str:
        return " ".join([text, *(f"^{marks.setdefault(note, len(marks) + 1)}" for note in notes)])

    name = f"  published: {line.encoder}" if line.is_published else line.encoder
    return [
        line.dataset or line.file,
        str(line.size),
        marked(name, *line.notes),
        line.distance,
        *(
            marked(_percent(line, figure), *([figure.note] if figure.note else []))
            for figure in (line.figures[metric] for metric in metrics())
        ),
    ]


def _percent(line: Line, figure: Figure) -> str:
    """'83.18'; ours with their interval."""
    if figure.value is None:
        return "-"
    bounds = f" [{100 * figure.low:.2f}, {100 * figure.high:.2f}]" if figure.low is not None else ""
    return f"{100 * figure.value:.2f}{bounds}"


def _said(found: Sequence[Line]) -> list[str]:
    """What holds for the whole table."""
    paper = papers()[NAME]
    said = [
        "In percent. Ours: each test image, or volume, asks all training ones by exact search, and its five nearest count; in brackets 95 % intervals over them.",
    ]
    if any(line.is_published for line in found):
        said.append(
            f"Published: {paper.authors} {paper.year}, {paper.taken_from}. Their README says cosine, their code searches by Euclidean distance: compare with that line."
        )
    if any(line.is_published and line.size == 28 for line in found):
        said.append(
            "At 28: the published code enlarges images of 28 pixels to 32 for some encoders; which of the rows are of these is not known."
        )
    failed = {(line.file, line.size, line.encoder): line.n_failed for line in found if line.n_failed}
    said += [
        f"{encoder} at {size} of {file}: {count:,} queries could not be embedded and count as wrong; see failures"
        for (file, size, encoder), count in failed.items()
    ]
    return said


def csv_text(found: Sequence[Line]) -> str:
    """The table as CSV: figures in percent, a column each, with the bounds of their intervals; what is unknown is blank."""
    text = io.StringIO()
    heads = ["dataset", "file", "image_size", "by", "encoder", "cbmir_encoder", "distance"]
    for metric in metrics():
        heads += [metric, f"{metric} low", f"{metric} high"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads, "queries", "queries_failed", "comparable", "notes"])
    for line in found:
        row = [line.dataset, line.file, line.size, "published" if line.is_published else "ours", line.encoder, line.cbmir_encoder, line.distance]  # fmt: skip
        for metric in metrics():
            figure = line.figures[metric]
            row += [None if v is None else round(100 * v, 6) for v in (figure.value, figure.low, figure.high)]
        comparable = None if line.is_comparable is None else "yes" if line.is_comparable else "no"
        odd = [f"{metric}: {note}" for metric in metrics() if (note := line.figures[metric].note)]
        writer.writerow([*row, line.n_queries, line.n_failed, comparable, "; ".join([*line.notes, *odd])])
    return text.getvalue()
