"""What a chart is: a statement's rows, a drawing of them, a sentence and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cbmir.report.charts.words import Row


@dataclass(frozen=True)
class Table:
    """Cells as text; the first `texts` columns are words, the others numbers. `extrapolated`: columns that no sample was measured at."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int
    extrapolated: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """One chart; `rows` are always those of sql/report/<statement>.sql, and `order` are encoders, the best first."""

    name: str  # of the files
    title: str
    reads: tuple[str, ...]  # datasets of the study, all of which must be there
    draw: Callable[[list[Row], Sequence[str]], Any]  # -> a figure of matplotlib, inside on_page or on_paper
    says: Callable[[list[Row], Sequence[str]], str]  # -> what is to be seen, in words
    table: Callable[[list[Row]], Table]
    note: str = ""  # how to read it
    asks: str = ""  # the statement, where it is not called as the chart is

    @property
    def statement(self) -> str:
        return self.asks or self.name


def table(rows: list[Row], columns: dict[str, tuple[str, Callable[[Any], str]]], *, texts: int) -> Table:
    """Rows as they are: key -> (heading, how its value is said). Columns without any value are left out."""
    shown = {key: spec for key, spec in columns.items() if any(row.get(key) is not None for row in rows)}
    cells = [tuple(say(row.get(key)) for key, (_, say) in shown.items()) for row in rows]
    lost = sum(key not in shown for key in list(columns)[:texts])
    return Table(tuple(head for head, _ in shown.values()), cells, texts - lost)


def by_size(rows: list[Row], heads: dict[str, Callable[[Row], str]], say: Callable[[Row], str]) -> Table:
    """A row a line and a column a size: heading -> the row's words. Extrapolated sizes come last."""
    ahead = sorted({(bool(row.get("is_extrapolation")), row["gallery_size"]) for row in rows})
    found: dict[tuple[str, ...], dict[tuple[bool, int], str]] = {}
    for row in rows:
        key = tuple(words(row) for words in heads.values())
        found.setdefault(key, {})[bool(row.get("is_extrapolation")), row["gallery_size"]] = say(row)
    head = (*heads, *(f"{size:,}" for _, size in ahead))
    lines = [(*key, *(cells.get(at, "–") for at in ahead)) for key, cells in found.items()]
    beyond = frozenset(len(heads) + i for i, (is_extrapolation, _) in enumerate(ahead) if is_extrapolation)
    return Table(head, lines, len(heads), beyond)
