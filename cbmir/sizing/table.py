"""The figures of a study of image sizes, for people."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cbmir.aligned import aligned, number, with_interval
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
    return aligned(lines, left=(0, 2))


def _line(row: dict[str, Any]) -> list[str]:
    name = "P" if row["metric"] == "precision_at_k" else "mAP"
    return [
        row["base_encoder"],
        str(row["image_size"]),
        f"{name}@{row['k']}",
        with_interval(row["value"], row["ci_low"], row["ci_high"]),
        number(row["chance"]),
        with_interval(row["difference"], row["difference_low"], row["difference_high"], sign="+"),
        *(number(row[name], 4) for name in ("p_value", "p_holm", "seconds_per_image")),
    ]
