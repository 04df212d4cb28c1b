"""Anatomy against pathology, as the gallery grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts import by_size as sizes
from cbmir.report.charts.chart import Chart, Table, by_size
from cbmir.report.charts.index_size import ENCODER, cell
from cbmir.report.charts.words import Row, brief, metric, several

LEVELS = {
    "label": "same label",
    "label_in_region": "same label, within the region",
    "modality_region": "same modality and region",
    "region": "same region",
    "modality": "same modality",
}


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A panel a level of relevance, pathology first."""
    titled = {
        title: here for level, title in LEVELS.items() if (here := [row for row in rows if row["relevance"] == level])
    }
    return sizes.over_size(titled, order=order, y=metric(rows[0]), columns=3 if len(titled) > 2 else 2, height=2.1)


def says(rows: list[Row], order: Sequence[str]) -> str:
    """What the best encoder reaches at each level, and how far each moves."""
    group = [row for row in sizes.measured(sizes.stands_for(rows)) if row["encoder"] == order[0]]
    levels = {level: [row for row in group if row["relevance"] == level] for level in LEVELS}
    ends = {level: (here[0], here[-1]) for level, here in levels.items() if here}
    last = next(iter(ends.values()))[1]
    reached = several(f"{brief(end['value'])} for the {LEVELS[level]}" for level, (_, end) in ends.items())
    said = f"At {last['gallery_size']:,} images {metric(last)} of {sizes.named(last)} is {reached}"
    moved = [
        f"{end['value'] - start['value']:+.2f} for the {LEVELS[level]}".replace("-", "−")
        for level, (start, end) in ends.items()
        if start is not end
    ]
    return (
        f"{said}; since {group[0]['gallery_size']:,} images it has changed by {several(moved)}."
        if moved
        else f"{said}."
    )


def _table(rows: list[Row]) -> Table:
    return by_size(rows, {"right means": lambda row: LEVELS.get(row["relevance"], row["relevance"])} | ENCODER, cell)


CHART = Chart(
    "index_size_anatomy",
    "Anatomy against pathology",
    ("scaling",),
    draw,
    says,
    _table,
    "The same neighbors, judged by what is the matter and by what part of the body they show.",
)
