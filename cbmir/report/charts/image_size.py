"""Retrieval against the size of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts.chart import Chart, Table, table
from cbmir.report.charts.grid import panels, shares, sizes_below, whiskers
from cbmir.report.charts.look import SMALL, look
from cbmir.report.charts.words import Row, brief, metric, number, of_question, share

_PIXELS = "image size, pixels"


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """P@k at the smallest and the largest k, mAP@5, and seconds an image where they are known; a line an encoder, bars its intervals."""
    from matplotlib.lines import Line2D

    micro = [row for row in rows if row["average"] == "micro"] or rows
    titled = _figures(micro)
    bases = _bases(rows)
    styles = {name: look(place, size=SMALL) for place, name in enumerate(bases)}
    timed = [row for row in next(iter(titled.values())) if row["seconds_per_image"]]
    legend = {name: Line2D([], [], **style) for name, style in styles.items()}
    figure, axes = panels(len(titled) + bool(timed), columns=2, height=2.4, legend=legend)
    pixels = [row["image_size"] for row in rows]
    for one, (title, here) in zip(axes, titled.items(), strict=False):
        one.set_title(title)
        _lines(one, here, styles, key="value")
    drawn = [row for here in titled.values() for row in here]
    shares(axes[: len(titled)], [row[key] for row in drawn for key in ("value", "ci_high") if row[key] is not None])
    if timed:
        axes[-1].set_title("seconds an image")
        _lines(axes[-1], [row | {"ci_low": None, "ci_high": None} for row in timed], styles, key="seconds_per_image")
        axes[-1].set_ylim(0, max(row["seconds_per_image"] for row in timed) * 1.12)
    for one in axes:
        sizes_below(
            one, pixels, label=", ".join(filter(None, (_PIXELS, of_question(rows)))), columns=2, room=1.15, say=str
        )
    return figure


def _figures(rows: list[Row]) -> dict[str, list[Row]]:
    """Title -> rows of one metric and k: P@k at the ends, and mAP."""
    wanted = []
    for name in ("precision_at_k", "average_precision_over_hits_at_k"):
        ks = sorted({row["k"] for row in rows if row["metric"] == name})
        wanted += [(name, k) for k in dict.fromkeys([*ks[:1], *ks[-1:]])]
    return {
        metric({"metric": name, "k": k}): [row for row in rows if (row["metric"], row["k"]) == (name, k)]
        for name, k in wanted
    }


def _lines(axes: Any, rows: list[Row], styles: dict[str, dict[str, Any]], *, key: str) -> None:
    for place, (base, style) in enumerate(styles.items()):
        here = sorted((row for row in rows if row["base_encoder"] == base), key=lambda row: row["image_size"])
        aside = 1 + 0.012 * (place - (len(styles) - 1) / 2)  # so that intervals at one size stand beside each other
        xs = [row["image_size"] * aside for row in here]
        if any(row["ci_low"] is not None for row in here):
            axes.errorbar(
                xs,
                [row[key] for row in here],
                yerr=whiskers(here),
                fmt="none",
                ecolor=style["color"],
                elinewidth=0.9,
                capsize=2.5,
            )
        axes.plot(xs, [row[key] for row in here], zorder=40 - place, gid=f"measured-of-{place}", **style)


def _bases(rows: list[Row]) -> list[str]:
    return sorted({row["base_encoder"] for row in rows})


def says(rows: list[Row], order: Sequence[str]) -> str:
    """At which size each of the first encoders is at its best."""
    first = next(iter(_figures([row for row in rows if row["average"] == "micro"] or rows).values()))
    said = []
    for base in _bases(first)[:3]:
        here = sorted((row for row in first if row["base_encoder"] == base), key=lambda row: row["image_size"])
        best, least = max(here, key=lambda row: row["value"]), here[0]
        interval = "" if best["ci_low"] is None else f" ({brief(best['ci_low'])} to {brief(best['ci_high'])})"
        words = f"{metric(best)} of {base} is highest at {best['image_size']} pixels, {brief(best['value'])}{interval}"
        said.append(
            f"{words}; at {least['image_size']} it is {brief(least['value'])}." if least is not best else f"{words}."
        )
    return " ".join(said)


def _table(rows: list[Row]) -> Table:
    columns = {
        "base_encoder": ("encoder", str), "figure": ("figure", str), "index": ("index", str), "image_size": ("pixels", str), "value": ("value", share),
        "ci_low": ("from", share), "ci_high": ("to", share), "chance": ("chance", share), "n_queries": ("queries", number),
        "seconds_per_image": ("seconds an image", number),
    }  # fmt: skip
    return table([row | {"figure": f"{metric(row)}, {row['average']}"} for row in rows], columns, texts=3)


CHART = Chart(
    "image_size",
    "Retrieval against image size",
    ("image_sizes", "metrics"),
    draw,
    says,
    _table,
    "Images are brought to each size before the encoder's own preprocessing; bars are 95 % intervals over patients.",
)
