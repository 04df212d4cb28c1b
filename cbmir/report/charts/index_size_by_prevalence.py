"""Rare against common labels, as the gallery grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts import by_size as sizes
from cbmir.report.charts.chart import Chart, Table, by_size
from cbmir.report.charts.index_size import ENCODER, cell, change
from cbmir.report.charts.words import Row, metric

_GROUPS = {"rare": "rare labels", "middle": "labels in between", "common": "common labels"}


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A panel for rare, middling and common labels each; micro."""
    micro = _micro(rows)
    titled = {
        title: here for name, title in _GROUPS.items() if (here := [row for row in micro if row["slice"] == name])
    }
    return sizes.over_size(titled, order=order, y=metric(rows[0]), columns=3, height=2.3)


def says(rows: list[Row], order: Sequence[str]) -> str:
    """What becomes of rare and of common labels with the best encoder."""
    group = [row for row in sizes.measured(sizes.stands_for(_micro(rows))) if row["encoder"] == order[0]]
    said = []
    for name, title in _GROUPS.items():
        here = [row for row in group if row["slice"] == name]
        if here:
            said.append(f"For {title} " + change(here))
    return ". ".join(said) + "."


def _micro(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["average"] == "micro"] or rows


def _table(rows: list[Row]) -> Table:
    heads = {"labels": lambda row: row["slice"], "average": lambda row: row["average"]}
    return by_size(rows, heads | ENCODER, cell)


CHART = Chart(
    "index_size_by_prevalence",
    "Rare and common labels",
    ("scaling",),
    draw,
    says,
    _table,
    "Thirds of the labels by how many images of the whole gallery have them; of a query with several labels the rarest counts.",
)
