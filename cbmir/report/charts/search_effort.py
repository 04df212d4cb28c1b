"""Speed against quality of graphs and efforts, so that one can pick a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.chart import Chart, Table, table
from cbmir.report.charts.grid import panels, sizes_below
from cbmir.report.charts.look import INK, SMALL, look
from cbmir.report.charts.words import Row, metric, number, share, short

ENCODERS = 4  # that are drawn; the table has all
_GOOD = 0.99
_LETTERS = 46  # of an encoder over its panels
_RING = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
}
_EXACT = {"linestyle": "none", "marker": "*", "markersize": 12, "color": INK, "markerfacecolor": "none"}
_SPEED, _EFFORT = "queries per second", "expansion of a search"


def setting(row: Row) -> str:
    """What the points of one line have in common: 'int8, 64 axes, M 16, re-ranking 2'."""
    words = [row["dtype"]]
    words += [f"{row['pca']} axes"] if row["pca"] is not None else []
    words += [f"M {row['connectivity']}"] if row["connectivity"] is not None else []
    words += [f"re-ranking {row['rerank']}"] if row["rerank"] is not None else []
    return ", ".join(words)


def is_exact(row: Row) -> bool:
    return row["dtype"] == "exact"


def judged(rows: list[Row]) -> list[tuple[str, int | None, str]]:
    """(metric, k, relevance) of the columns: ANN recall at the k nearest 10, and P@k at the smallest k by label."""
    recall = {row["k"] for row in rows if row["metric"] == "ann_recall"}
    found = [("ann_recall", min(recall, key=lambda k: abs(k - 10)), "")] if recall else []
    levels = [(["label", "region", "modality"].index(row["relevance"]), row["k"], row["relevance"])
              for row in rows if row["metric"] == "precision_at_k" and row["relevance"] in ("label", "region", "modality")]  # fmt: skip
    if levels:
        _, k, relevance = min(levels)
        found.append(("precision_at_k", k, relevance))
    return found


def _of(rows: list[Row], column: tuple[str, int | None, str]) -> list[Row]:
    name, k, relevance = column
    return [
        row
        for row in rows
        if (row["metric"], row["k"]) == (name, k) and (name == "ann_recall" or row["relevance"] == relevance)
    ]


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """Recall and P@k against queries per second, a row an encoder, the Pareto front ringed and joined."""
    return _draw(rows, order, key="queries_per_second", label=_SPEED)


def draw_by_expansion(rows: list[Row], order: Sequence[str]) -> Any:
    """The same points against the expansion."""
    return _draw(rows, order, key="expansion_search", label=_EFFORT)


def _draw(rows: list[Row], order: Sequence[str], *, key: str, label: str) -> Any:
    columns = judged(rows)
    encoders = [name for name in order if any(row["encoder"] == name for row in rows)][:ENCODERS]
    rows = [row for row in rows if row["encoder"] in encoders]
    kinds = list(dict.fromkeys(setting(row) for row in rows if not is_exact(row)))
    styles = {name: look(place, size=SMALL) for place, name in enumerate(kinds)}
    fast = key == "queries_per_second"
    legend = _legend(styles, exact=any(map(is_exact, rows)), front=fast and any(row["is_pareto"] for row in rows))
    figure, axes = panels(len(columns) * len(encoders), columns=len(columns), height=2.5, legend=legend)
    xs = [row[key] for row in rows if row[key]] or [1]
    for place, one in enumerate(axes):
        encoder, column = encoders[place // len(columns)], columns[place % len(columns)]
        here = [row for row in _of(rows, column) if row["encoder"] == encoder]
        _panel(one, here, styles, key=key)
        one.set_title(short(encoder, _LETTERS) if len(encoders) > 1 else "")
        one.set_ylabel(metric({"metric": column[0], "k": column[1]}))
        sizes_below(one, _round(xs) if fast else xs, label=label, columns=2, room=1.3, say=lambda n: f"{n:,}")
        one.set_xlim(min(xs) / 1.3, max(xs) * 1.3)
    return figure


def _panel(axes: Any, rows: list[Row], styles: dict[str, dict[str, Any]], *, key: str) -> None:
    for place, (name, style) in enumerate(styles.items()):
        line = [row for row in rows if not is_exact(row) and setting(row) == name and row[key]]
        if line:
            axes.plot(
                [row[key] for row in line],
                [row["value"] for row in line],
                zorder=40 - place,
                gid=f"measured-of-{place}",
                **style,
            )
    for row in filter(is_exact, rows):
        axes.axhline(row["value"], color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
        if key == "queries_per_second":
            axes.plot([row[key]], [row["value"]], zorder=50, gid="exact-of-panel", **_EXACT)
    front = sorted((row[key], row["value"], row["expansion_search"]) for row in rows if row["is_pareto"] and row[key])
    if front and key == "queries_per_second":
        axes.plot(
            [x for x, *_ in front], [y for _, y, _ in front], color=INK, linewidth=0.7, zorder=10, drawstyle="steps-pre"
        )
        axes.plot([x for x, *_ in front], [y for _, y, _ in front], zorder=51, gid="pareto-of-panel", **_RING)
        for x, y, expansion in front:
            if expansion is not None:
                axes.annotate(
                    f"{expansion}", (x, y), xytext=(5, 5), textcoords="offset points", fontsize="x-small", zorder=52
                )
    values = [row["value"] for row in rows] or [0.0, 1.0]
    room = max(0.01, 0.12 * (max(values) - min(values)))
    axes.set_ylim(min(values) - room, max(values) + room)


def _legend(styles: dict[str, dict[str, Any]], *, exact: bool, front: bool) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles = {name: Line2D([], [], **style) for name, style in styles.items()}
    handles |= {"exact search": Line2D([], [], **_EXACT)} if exact else {}
    return handles | ({"Pareto front, with expansions": Line2D([], [], **_RING)} if front else {})


def _round(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten from below the least value to above the greatest."""
    low, high = min(values), max(values)
    return [at for power in range(-3, 9) for step in (1, 2, 5) if low / 2 <= (at := step * 10.0**power) <= high * 2]


def says(rows: list[Row], order: Sequence[str]) -> str:
    """How many points are worth taking, the fastest of them, and the fastest that misses next to nothing."""
    column = judged(rows)[0]
    mine = [row for row in _of(rows, column) if row["encoder"] == order[0]]
    front = sorted(
        (row for row in mine if row["is_pareto"] and not is_exact(row)), key=lambda row: -row["queries_per_second"]
    )
    name = metric({"metric": column[0], "k": column[1]})
    graphs = sum(not is_exact(row) for row in mine)
    points = f"{len(front)} of {graphs} graphs and efforts are on the Pareto front of speed and {name}"
    said = f"With {order[0]}, {points if graphs else 'no graph was searched'}."
    if front:
        said += f" The fastest, {_point(front[0], name)}."
    good = [row for row in front if row["value"] >= _GOOD]
    if column[0] == "ann_recall" and good and good[0] is not front[0]:
        said += f" With a recall of {_GOOD} or more: {_point(good[0], name)}."
    exact = next(filter(is_exact, mine), None)
    return said + (
        f" Exact search answers {number(round(exact['queries_per_second']))} queries a second." if exact else ""
    )


def _point(row: Row, name: str) -> str:
    effort = "" if row["expansion_search"] is None else f" at expansion {row['expansion_search']}"
    return f"{setting(row)}{effort}, answers {number(round(row['queries_per_second']))} queries a second with {name} {share(row['value'])}"


def _table(rows: list[Row]) -> Table:
    plain, maybe = str, lambda value: "–" if value is None else str(value)
    columns = {
        "encoder": ("encoder", plain), "figure": ("figure", plain), "dtype": ("graph", plain), "pca": ("axes", maybe), "connectivity": ("M", maybe),
        "rerank": ("re-ranking", maybe), "expansion_search": ("expansion", maybe), "value": ("value", share), "ci_low": ("from", share),
        "ci_high": ("to", share), "queries_per_second": ("queries/s", number), "front": ("Pareto front", plain),
        "graph_megabytes": ("graph, MB", number), "build_seconds": ("build, s", number),
    }  # fmt: skip
    named = [row | {"figure": _figure(row), "front": "yes" if row["is_pareto"] else ""} for row in rows]
    return table(named, columns, texts=3)


def _figure(row: Row) -> str:
    return metric(row) + (f", {row['relevance']}" if row["relevance"] else "")


_READ = (
    "A point is a graph (the type of its numbers; re-ranking: candidates a neighbor that are scored again by exact distance) with one expansion of its "
    "searches. "
)

CHART = Chart(
    "search_effort",
    "Speed against quality",
    ("search_effort",),
    draw,
    says,
    _table,
    _READ
    + "No other point is both faster and better than one on the Pareto front: take one of those. The star is exact search.",
)


def _says_by_expansion(rows: list[Row], order: Sequence[str]) -> str:
    """What the largest expansion gains over the smallest, for the first line of the best encoder."""
    column = judged(rows)[0]
    mine = [
        row for row in _of(rows, column) if row["encoder"] == order[0] and not is_exact(row) and row["expansion_search"]
    ]
    if not mine:
        return f"No graph of {order[0]} was searched with an expansion."
    line = [row for row in mine if setting(row) == setting(mine[0])]
    first, last = line[0], line[-1]
    return (
        f"{metric(first)} of {order[0]} by {setting(first)} goes from {share(first['value'])} at expansion {first['expansion_search']} to "
        f"{share(last['value'])} at {last['expansion_search']}."
    )


BY_EXPANSION = Chart(
    "search_effort_by_expansion",
    "What effort buys",
    ("search_effort",),
    draw_by_expansion,
    _says_by_expansion,
    _table,
    _READ + "The dashed line is exact search.",
    "search_effort",
)
