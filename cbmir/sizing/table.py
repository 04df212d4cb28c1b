"""The figures of a study of image sizes, for people."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cbmir.select import attach, connect
from cbmir.sql_files import read
from cbmir.store import Study

_MAP_AT = 5  # as published; the largest k below it where that is not asked for


def size_text(study: Study, sizes: pa.Table, bases: set[str], ks: tuple[int, ...]) -> str:
    """An aligned table, a row an encoder, figure and size."""
    connection = connect()
    connection.register("sizes", sizes)
    for dataset in ("metrics", "comparisons"):
        attach(connection, dataset, study, study.files(dataset))
    deep = max([k for k in ks if k <= _MAP_AT], default=min(ks))
    text = read("studies", "image_sizes")
    rows = connection.sql(text, params={"first": min(ks), "deep": deep}).to_arrow_table().to_pylist()
    lines = [["encoder", "pixels", "", "value", "chance", "to the largest", "p", "p Holm", "s/image"]]
    for row in rows:
        if row["base_encoder"] in bases:
            lines.append(_line(row))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = (0, 2)
    return "\n".join(
        "  ".join(
            t.ljust(w) if i in left else t.rjust(w) for i, (t, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(row: dict[str, Any]) -> list[str]:
    name = "P" if row["metric"] == "precision_at_k" else "mAP"
    return [
        row["base_encoder"],
        str(row["image_size"]),
        f"{name}@{row['k']}",
        _with_interval(row["value"], row["ci_low"], row["ci_high"]),
        _number(row["chance"]),
        _with_interval(row["difference"], row["difference_low"], row["difference_high"], sign="+"),
        _number(row["p_value"], 4),
        _number(row["p_holm"], 4),
        "-" if row["seconds_per_image"] is None else f"{row['seconds_per_image']:.4f}",
    ]


def _with_interval(value: float | None, low: float | None, high: float | None, *, sign: str = "") -> str:
    """'-0.011 (-0.129 to +0.097)'."""
    if value is None:
        return "-"
    texts = [
        f"{number + 0.0:{sign}.3f}" for number in (value, low, high) if number is not None
    ]  # + 0.0: no minus before a zero
    return texts[0] if low is None else f"{texts[0]} ({texts[1]} to {texts[2]})"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
