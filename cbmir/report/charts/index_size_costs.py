"""What galleries of each size cost, and what approximate search finds of the exact result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts import by_size as sizes
from cbmir.report.charts.chart import Chart, Table, by_size
from cbmir.report.charts.grid import panels, sizes_below
from cbmir.report.charts.words import Row, number

_PANELS = {
    "recall": "ANN recall@{k}",
    "expansion": "expansion of a search",
    "build_seconds": "time to build, s",
    "query_milliseconds": "time of a query, ms",
    "graph_megabytes": "file of the graph, MB",
    "peak_megabytes": "peak memory, MB",
}
_MORE = {"vector_megabytes": "stored vectors, MB"}  # in the table


_SAID = 3  # searches that the sentence is about


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """A panel a quantity: recall from where it begins, all others on logarithmic axes."""
    there = {name: here for name in _PANELS if (here := [row for row in rows if row["quantity"] == name])}
    chosen = sizes.styles(rows, order)
    drawn = [row for here in there.values() for row in here]
    figure, axes = panels(len(there), columns=3, height=2.0, legend=sizes.legend(drawn, chosen))
    for one, (name, here) in zip(axes, there.items(), strict=True):
        one.set_title(_title(name, rows))
        for place, (key, group) in enumerate(sizes.lines(here).items()):
            sizes.measured_line(one, group, chosen[key], place=place)
        sizes_below(one, [row["gallery_size"] for row in drawn], label=sizes.SIZE, columns=3)
        _scale(one, name, [row[key] for row in here for key in ("value", "low", "high") if row[key] is not None])
    return figure


def _scale(axes: Any, name: str, values: list[float]) -> None:
    if name == "recall":
        least = min(values)
        axes.set_ylim(max(0.0, least - 0.08 * (1.02 - least)), 1.02 if least < 0.9 else 1 + 0.1 * (1.005 - least))
    elif min(values) > 0:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_yscale("log")
        axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_locator(NullLocator())


def _title(quantity: str, rows: list[Row]) -> str:
    return (_PANELS | _MORE).get(quantity, quantity).format(k=max(row["recall_at"] for row in rows))


def says(rows: list[Row], order: Sequence[str]) -> str:
    """What the first searches of the best encoder cost at the largest size, and how their recall changes."""
    mine = [row for row in rows if row["encoder"] == order[0]]
    groups = [[row for row in mine if sizes.variant(row) == name] for name in sizes.variants(mine)]
    said = [_sentence(group) for group in groups[:_SAID] if group]
    left = len({(row["encoder"], sizes.variant(row)) for row in rows}) - len(said)
    return " ".join(said + ([f"{left} more in the chart and its table."] if left > 0 else []))


def _sentence(rows: list[Row]) -> str:
    most = max(row["gallery_size"] for row in rows)
    at = {row["quantity"]: row["value"] for row in rows if row["gallery_size"] == most}
    units = {"build_seconds": "{} s to build", "query_milliseconds": "{} ms a query", "graph_megabytes": "{} MB in a file", "peak_megabytes": "{} MB of memory at the most"}  # fmt: skip
    costs = ", ".join(words.format(number(at[name])) for name, words in units.items() if name in at)
    said = f"At {most:,} images {sizes.variant(rows[0])} of {rows[0]['encoder']} takes {costs or 'no time that was measured'}"
    recall = [row for row in rows if row["quantity"] == "recall"]
    if not recall or rows[0]["index"] == "exact":
        return f"{said}."
    return f"{said}; its recall is {recall[0]['value']:.3f} at {recall[0]['gallery_size']:,} images and {recall[-1]['value']:.3f} at {recall[-1]['gallery_size']:,}."


def _table(rows: list[Row]) -> Table:
    def cell(row: Row) -> str:
        return number(row["value"]) + ("" if row["low"] is None else f" ({number(row['low'])}–{number(row['high'])})")

    heads = {
        "quantity": lambda row: _title(row["quantity"], rows),
        "encoder": lambda row: row["encoder"],
        "index": sizes.variant,
    }
    return by_size(rows, heads, cell)


CHART = Chart(
    "index_size_costs",
    "Time, memory and recall",
    ("scaling", "scaling_costs"),
    draw,
    says,
    _table,
    "Medians over the samples. An index whose name ends in -tuned has had the expansion of its searches found anew for each size; without, it is the same "
    "at every size. The time of a query is that of all queries together, divided by their number.",
)
