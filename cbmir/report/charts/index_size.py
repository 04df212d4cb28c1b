"""P@k against the size of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cbmir.report.charts import by_size as sizes
from cbmir.report.charts.chart import Chart, Table, by_size
from cbmir.report.charts.words import MODELS, Row, brief, metric, share, went

_SAID = 3  # lines that the sentence is about


def draw(rows: list[Row], order: Sequence[str]) -> Any:
    """Micro and macro side by side: the smallest k, and the largest."""
    titled = {}
    for k in dict.fromkeys(_ends(rows)):
        for average in ("micro", "macro"):
            here = [row for row in rows if (row["k"], row["average"]) == (k, average)]
            if here:
                titled[f"P@{k}, {average}"] = here
    return sizes.over_size(titled, order=order, y=f"P@k, {rows[0]['relevance']}", columns=2)


def says(rows: list[Row], order: Sequence[str]) -> str:
    """How P@k of the first encoders changes, and what their fits expect."""
    least, _ = _ends(rows)
    main = [row for row in rows if row["k"] == least]
    average = "micro" if any(row["average"] == "micro" for row in main) else "macro"
    groups = sizes.lines(sizes.stands_for([row for row in main if row["average"] == average]))
    ranked = sorted(groups.values(), key=lambda group: order.index(group[0]["encoder"]))
    said = [_sentence(group) for group in ranked[:_SAID] if sizes.measured(group)]
    left = len({(row["encoder"], sizes.variant(row)) for row in rows}) - len(said)
    return " ".join(
        said
        + ([f"{left} more {'line is' if left == 1 else 'lines are'} in the chart and its table."] if left > 0 else [])
    )


def change(group: list[Row]) -> str:
    """'P@1 of pixels32 grows from 0.41 at 1,000 images to 0.55 at 16,000', without a full stop."""
    known = sizes.measured(group)
    first, last = known[0], known[-1]
    what = f"{metric(first)} of {sizes.named(first)}"
    if first is last:
        return f"{what} is {brief(first['value'])} at {first['gallery_size']:,} images"
    verb = went(first["value"], last["value"])
    if verb == "stays near":
        return f"{what} stays near {brief(last['value'])} from {first['gallery_size']:,} to {last['gallery_size']:,} images"
    return f"{what} {verb} from {brief(first['value'])} at {first['gallery_size']:,} images to {brief(last['value'])} at {last['gallery_size']:,}"


def _sentence(group: list[Row]) -> str:
    ahead = sizes.beyond(group)
    if not ahead:
        return f"{change(group)}."
    far = ahead[-1]
    interval = "" if far["ci_low"] is None else f" ({brief(far['ci_low'])} to {brief(far['ci_high'])})"
    model = MODELS.get(far["model"], far["model"])
    return f"{change(group)}; {model} expects {brief(far['value'])}{interval} at {far['gallery_size']:,}: an extrapolation."


def _ends(rows: list[Row]) -> tuple[int, int]:
    ks = [row["k"] for row in rows]
    return min(ks), max(ks)


def cell(row: Row) -> str:
    """A value with the range over samples, or a predicted one with its interval."""
    low, high = (row["ci_low"], row["ci_high"]) if row["is_extrapolation"] else (row["low"], row["high"])
    return share(row["value"]) + (f" ({share(low)}–{share(high)})" if low is not None and high is not None else "")


ENCODER = {"encoder": lambda row: row["encoder"], "index": sizes.variant}


def _table(rows: list[Row]) -> Table:
    heads = {"figure": lambda row: f"P@{row['k']}, {row['average']}"}
    return by_size(rows, heads | ENCODER, cell)


CHART = Chart(
    "index_size",
    "P@k against the size of the gallery",
    ("scaling",),
    draw,
    says,
    _table,
    "Each point is the mean over samples of the gallery of that size; larger samples hold the smaller ones. Queries whose every relevant image is "
    "missing from a sample are left out there, so the queries of small samples are fewer.",
)
