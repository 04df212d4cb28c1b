"""What a volume found, and which of their slices match: as text, as tables, as columns of a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from cbmir.querying.answers import NEIGHBOR, TABLE, Answer, save_columns
from cbmir.querying.answers import text as of_images

VOLUME = ("volume_id", "n_slices")  # of a volume, beside what NEIGHBOR names
PAIR = ("query_slice", "query_uri", "slice", "uri", "distance")  # of a pair of slices that match
_PAIRS = pa.schema(
    [
        *TABLE,
        ("volume_id", pa.string()),
        ("n_slices", pa.int64()),
        ("match", pa.int32()),
        ("query_slice", pa.int32()),
        ("query_uri", pa.string()),
        ("slice", pa.int32()),
        ("slice_uri", pa.string()),
        ("slice_distance", pa.float32()),
    ]
)


def text(answer: Answer) -> str:
    """As of images; under each volume the pairs of slices that match."""
    return of_images(
        answer,
        lambda found: [f"       slices {', '.join(_pair(pair) for pair in found['slices'])}"],
        [f"  {_left_out(answer)}"] if answer.left_out else [],
    )


def _pair(pair: dict[str, Any]) -> str:
    """'20 ~ 31 (0.0123)': the query's slice and the volume's; '31 (0.0123)' where the query is an image that has no number."""
    mine = "" if pair["query_slice"] is None else f"{pair['query_slice']} ~ "
    return f"{mine}{pair['slice']} ({pair['distance']:.4f})"


def _left_out(answer: Answer) -> str:
    count = len(answer.left_out)
    return f"left out: {count:,} slice{'s' if count > 1 else ''}, the first: {answer.left_out[0]}"


def columns(answers: Iterable[Answer]) -> dict[str, list]:
    """One value a volume: query, what NEIGHBOR and VOLUME name, and `slices`: a dict with PAIR for each pair that matches, the nearest first."""
    names = (*NEIGHBOR, *VOLUME, "slices")
    found: dict[str, list] = {name: [] for name in ("query", *names)}
    for answer in answers:
        for neighbor in answer.neighbors:
            found["query"].append(answer.name)
            for name in names:
                found[name].append(neighbor[name])
    return found


def save_pairs(answers: list[Answer], path: str) -> None:
    """One row a pair of slices that match, with what is known of the volume; labels as a list in Parquet, as a|b in CSV."""
    rows: dict[str, list] = {name: [] for name in _PAIRS.names}
    for answer in answers:
        for found in answer.neighbors:
            for match, pair in enumerate(found["slices"], 1):
                row = {name: found[name] for name in (*NEIGHBOR, *VOLUME)} | {"query": answer.name, "match": match}
                row |= {"query_slice": pair["query_slice"], "query_uri": pair["query_uri"], "slice": pair["slice"]}
                row |= {"slice_uri": pair["uri"], "slice_distance": pair["distance"]}
                for name, value in row.items():
                    rows[name].append(value)
    save_columns(rows, _PAIRS, path)
