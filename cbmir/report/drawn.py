"""The charts that a study has data for: their rows, sentences and tables, and the drawings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cbmir.report.charts.chart import Chart, Table
from cbmir.report.charts.words import letter
from cbmir.report.fresh import is_fresh
from cbmir.report.ranking import question
from cbmir.sql_files import read
from cbmir.store import Study
from cbmir.views import open_views


@dataclass(frozen=True)
class Drawn:
    """One chart with the rows of its statement; at least one."""

    chart: Chart
    rows: list[dict[str, Any]]
    order: list[str]  # the encoders in the rows, the best first
    question: str  # which one the rows answer, in words, where the study's searches ask several; else empty

    def on_page(self) -> str:
        """The <svg> element."""
        from cbmir.report.charts.ink import on_page, svg_element

        with on_page(self.chart.name, size=8):
            return svg_element(self.chart.draw(self.rows, self.order))

    def on_paper(self) -> tuple[bytes, bytes]:
        """Files: SVG, and PNG of 300 dots an inch."""
        from cbmir.report.charts.ink import on_paper, png_file, svg_file

        with on_paper(self.chart.name):
            figure = self.chart.draw(self.rows, self.order)
            return svg_file(figure), png_file(figure)

    @property
    def sentence(self) -> str:
        said = self.chart.says(self.rows, self.order)
        return f"{self.question}: {said}" if self.question else said

    @property
    def table(self) -> Table:
        return self.chart.table(self.rows)

    @property
    def statement(self) -> str:
        return without_header(read("report", self.chart.statement))

    def csv(self) -> bytes:
        """The rows as they were answered: null is empty, a list is JSON."""
        lines = [",".join(self.rows[0])]
        lines += [",".join(_cell(value) for value in row.values()) for row in self.rows]
        return ("\n".join(lines) + "\n").encode()


class Asked:
    """A study's views, asked for the rows of charts."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.connection, _ = open_views(study)
        self._fresh: dict[str, bool] = {}

    def has(self, *datasets: str) -> bool:
        """Whether all of them are finished and not outdated."""
        for name in datasets:
            if name not in self._fresh:
                self._fresh[name] = is_fresh(self.study, name)
        return all(self._fresh[name] for name in datasets)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """The rows of sql/report/<statement>.sql."""
        return self.connection.sql(read("report", statement)).to_arrow_table().to_pylist()

    def charts(self, *names: str) -> Iterator[Drawn]:
        """Those of the charts named, or all, that have rows."""
        from cbmir.report.charts.every import CHARTS

        for chart in CHARTS:
            if (not names or chart.name in names) and self.has(*chart.reads):
                rows = self.rows(chart.statement)
                if rows:
                    yield Drawn(chart, rows, self._order(rows), self._question(rows))

    def _question(self, rows: list[dict[str, Any]]) -> str:
        if rows[0].get("questions", 1) < 2:
            return ""
        asked = next(search for search in self._searches if search["question"] == rows[0]["question"])
        return f"Question {letter(asked['question'])} ({question(asked)})"

    def _order(self, rows: list[dict[str, Any]]) -> list[str]:
        """Encoders of the rows, as they stand on the leaderboard, and then by name."""
        place = {encoder: i for i, encoder in enumerate(self._ranking)}
        return sorted({row["encoder"] for row in rows}, key=lambda name: (place.get(name, len(place)), name))

    @cached_property
    def _searches(self) -> list[dict[str, Any]]:
        return self.rows("searches")

    @cached_property
    def _ranking(self) -> list[str]:
        return (
            list(dict.fromkeys(row["encoder"] for row in self.rows("leaderboard_forest")))
            if self.has("metrics")
            else []
        )


def without_header(text: str) -> str:
    """A statement without the comment that it opens with."""
    lines = text.splitlines()
    while lines and lines[0].startswith("--"):
        lines.pop(0)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, bool | list) else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n\r') else text
