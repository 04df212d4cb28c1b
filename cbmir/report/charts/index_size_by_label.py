"""Each label, as the gallery grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts import by_size as sizes
from cbmir.report.charts.chart import Chart, Table, by_size
from cbmir.report.charts.index_size import ENCODER, cell
from cbmir.report.charts.words import Row, brief, metric, short

PANELS = 12
_LETTERS = 30  # of a label over its panel


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """Small multiples: the labels whose P@k changes most, exact search alone where there is one."""
    titled: dict[str, list[Row]] = {}
    for row in sizes.stands_for(rows):
        if row["place"] <= PANELS:
            titled.setdefault(f"{row['place']}. {short(row['slice'], _LETTERS)}", []).append(row)
    return sizes.over_size(titled, order=order, y=metric(rows[0]), columns=3, height=1.75)


def says(rows: list[Row], order: Sequence[str]) -> str:
    """How many labels gain, and which changes most."""
    changes = {row["slice"]: row["change"] for row in rows}
    gain, lose = (sum(float(brief(sign * change)) > 0 for change in changes.values()) for sign in (1, -1))
    first = [row for row in sizes.measured(sizes.stands_for(rows)) if row["place"] == 1 and row["encoder"] == order[0]]
    said = f"Of {len(changes):,} labels {gain:,} gain with the size of the gallery, {lose:,} lose"
    if len(first) < 2 or not first[0]["change"]:
        return f"{said}."
    start, end = first[0], first[-1]
    return (
        f"{said}; {start['slice']} changes most: {metric(start)} of {sizes.named(start)} goes from {brief(start['value'])} at "
        f"{start['gallery_size']:,} images to {brief(end['value'])} at {end['gallery_size']:,}."
    )


def _table(rows: list[Row]) -> Table:
    return by_size(rows, {"label": lambda row: row["slice"]} | ENCODER, cell)


CHART = Chart(
    "index_size_by_label",
    "Every label",
    ("scaling",),
    draw,
    says,
    _table,
    f"The {PANELS} labels that change most, of those with ten queries or more; all labels are in the table. A line begins at the first size in which its "
    "label has something to find.",
)
