"""Lines over the size of the gallery: what was measured with its range over samples, and what a fit expects beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.grid import panels, shares, sizes_below, whiskers
from cbmir.report.charts.look import CHANCE, INK, expected, looks
from cbmir.report.charts.words import Row

SIZE = "gallery images"
EXTRAPOLATION = "extrapolation (bars: 95 %)"
CHANCE_NAME = "chance"
_BAND = "range over {n} samples"
_STEPS = 40  # of a fitted curve


def variant(row: Row) -> str:
    """What tells the lines of one encoder apart: index, and sampling unless random."""
    return row["index"] + ("" if row["sampling"] == "random" else f", {row['sampling']} samples")


def named(row: Row) -> str:
    """A line's name in a sentence: 'pixels32' for its exact search, else 'pixels32 (hnsw)'."""
    return row["encoder"] + ("" if variant(row) == "exact" else f" ({variant(row)})")


def variants(rows: Sequence[Row]) -> list[str]:
    """Those of all rows, exact search first."""
    return sorted({variant(row) for row in rows}, key=lambda name: (not name.startswith("exact"), name))


def styles(rows: Sequence[Row], order: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(encoder, variant) -> line style, for the encoders of `order`, so that an encoder looks alike in all charts."""
    kinds = variants(rows)
    there = {(row["encoder"], variant(row)) for row in rows}
    return {key: style for key, style in looks(order, kinds).items() if key in there}


def lines(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows -> those of each line, by size."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["gallery_size"]):
        found.setdefault((row["encoder"], variant(row)), []).append(row)
    return found


def measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.get("is_extrapolation")]


def beyond(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.get("is_extrapolation")]


def stands_for(rows: Sequence[Row]) -> list[Row]:
    """The lines of one variant an encoder: its exact search, or what comes next."""
    kinds, first = variants(rows), {}
    for row in rows:
        first[row["encoder"]] = min(first.get(row["encoder"], len(kinds)), kinds.index(variant(row)))
    return [row for row in rows if kinds.index(variant(row)) == first[row["encoder"]]]


def over_size(titled: dict[str, list[Row]], *, order: Sequence[str], y: str, columns: int, height: float = 2.25) -> Any:
    """A panel for each title with its rows, all on the same axes: values 0..1 over the size of the gallery."""
    rows = [row for group in titled.values() for row in group]
    chosen = styles(rows, order)
    figure, axes = panels(len(titled), columns=columns, height=height, legend=legend(rows, chosen))
    for place, (one, (title, group)) in enumerate(zip(axes, titled.items(), strict=True)):
        one.set_title(title)
        panel(one, group, chosen, zone=min(columns, len(titled)) < 3)
        sizes_below(
            one,
            [row["gallery_size"] for row in rows],
            label=SIZE if place >= len(axes) - min(columns, len(axes)) else "",
            columns=columns,
        )
        one.set_ylabel(y if place % columns == 0 else "")
    highest = [row[key] for row in rows for key in ("value", "high", "chance") if row.get(key) is not None]
    shares(axes, highest + [row["ci_high"] for row in beyond(rows) if row["ci_high"] is not None])
    return figure


def panel(axes: Any, rows: Sequence[Row], chosen: dict[tuple[str, str], dict[str, Any]], *, zone: bool) -> None:
    """All lines of one panel, and chance as the first of them has it."""
    groups = {key: group for key, group in lines(rows).items() if key in chosen}
    first = lines(stands_for(rows))  # the others' extrapolations, next to these, are in the table
    for place, (key, group) in enumerate(groups.items()):
        known = measured(group)
        if known:
            measured_line(axes, known, chosen[key], place=place)
        if key in first:
            _expected_line(axes, known, beyond(group), chosen[key], place=list(first).index(key), of=len(first))
    for group in groups.values():
        known = [row for row in measured(group) if row["chance"] is not None]
        if known:
            axes.plot(
                [row["gallery_size"] for row in known],
                [row["chance"] for row in known],
                gid="chance-of-panel",
                **CHANCE,
            )
            break
    if beyond(rows) and measured(rows):
        _mark_zone(axes, max(r["gallery_size"] for r in measured(rows)), words=zone)


def measured_line(axes: Any, rows: Sequence[Row], style: dict[str, Any], *, place: int) -> None:
    """Value at each size; a band from the least to the greatest sample, where there is more than one."""
    sizes = [row["gallery_size"] for row in rows]
    axes.plot(sizes, [row["value"] for row in rows], zorder=40 - place, gid=f"measured-of-{place}", **style)
    wide = [row for row in rows if row["seeds"] > 1 and row["low"] is not None]
    if wide:
        ends = ([row["low"] for row in wide], [row["high"] for row in wide])
        axes.fill_between(
            [row["gallery_size"] for row in wide],
            *ends,
            color=style["color"],
            alpha=0.2,
            linewidth=0,
            gid=f"band-of-{place}",
        )


def _expected_line(
    axes: Any, known: Sequence[Row], rows: Sequence[Row], style: dict[str, Any], *, place: int, of: int
) -> None:
    """The fitted curve from the largest sample on, and its interval at each size that was asked for."""
    if not rows:
        return
    style = expected(style)
    start = max((row["gallery_size"] for row in known), default=rows[0]["gallery_size"])
    xs = _between(start, rows[-1]["gallery_size"])
    bare = {key: value for key, value in style.items() if not key.startswith("marker")}
    axes.plot(xs, [fitted(rows[0], x) for x in xs], zorder=20, gid=f"extrapolation-of-{place}", **bare)
    aside = 1 + 0.05 * (place - (of - 1) / 2) / max(1, of / 4)  # so that intervals at one size stand beside each other
    sizes, values = [row["gallery_size"] * aside for row in rows], [row["value"] for row in rows]
    only = {key: value for key, value in style.items() if key not in ("linestyle", "linewidth")}
    axes.errorbar(
        sizes, values, yerr=whiskers(rows), fmt="none", ecolor=style["color"], elinewidth=0.9, capsize=2.5, zorder=21
    )
    axes.plot(sizes, values, linestyle="none", zorder=22, gid=f"expected-of-{place}", **only)


def _between(low: float, high: float) -> list[float]:
    return [low * (high / low) ** (i / _STEPS) for i in range(_STEPS + 1)]


def fitted(row: Row, images: float) -> float:
    """What the row's model says for a gallery of `images`, 0..1."""
    parameters = row["parameters"]
    if row["model"] == "power":
        ceiling, scale, exponent = parameters
        value = ceiling - scale * images**-exponent
    else:
        intercept, slope = parameters
        value = intercept + slope * math.log10(images)
    return min(1.0, max(0.0, value))


def _mark_zone(axes: Any, largest: float, *, words: bool) -> None:
    """Everything right of the largest sample is shaded; it says so where there is room."""
    axes.axvspan(
        largest * 1.06, largest * 1e6, color=INK, alpha=0.06, linewidth=0, zorder=0, gid="zone-of-extrapolation"
    )
    if words:
        axes.text(
            1.0,
            1.02,
            "extrapolation",
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize="small",
            style="italic",
        )


def legend(rows: Sequence[Row], chosen: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Name -> handle: every line, then chance, the band and the extrapolation where there is one."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    several = len({kind for _, kind in chosen}) > 1
    handles: dict[str, Any] = {
        f"{encoder}, {kind}" if several else encoder: Line2D([], [], **style)
        for (encoder, kind), style in chosen.items()
    }
    if any(row.get("chance") is not None for row in rows):
        handles[CHANCE_NAME] = Line2D([], [], **CHANCE)
    most = max((row["seeds"] for row in measured(rows) if row["low"] is not None), default=1)
    if most > 1:
        handles[_BAND.format(n=most)] = Patch(color=INK, alpha=0.2, linewidth=0)
    if beyond(rows):
        style = expected(next(iter(chosen.values()))) | {"color": INK}
        handles[EXTRAPOLATION] = Line2D([], [], **style)
    return handles
