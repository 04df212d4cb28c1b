"""What volumes found, with pictures of the slices that match."""

from __future__ import annotations

from typing import Any

from cbmir.report.gallery import answer_words, words
from cbmir.report.pictures import Pictures, thumbnails


def volume_answers(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of single volumes -> what their page shows: each volume found with its pairs of slices, side by side."""
    pairs = [pair for result in results for row in result["neighbors"] for pair in row["slices"]]
    pictures = thumbnails(uri for pair in pairs for uri in (pair["query_uri"], pair["uri"]))
    found = []
    for result in results:
        rows = [
            row | words(row, None) | {"pairs": [_pair(pair, pictures) for pair in row["slices"]]}
            for row in result["neighbors"]
        ]
        found.append(answer_words(result) | {"neighbors": rows, "left_out": len(result.get("left_out", []))})
    return found


def _pair(pair: dict[str, Any], pictures: Pictures) -> dict[str, Any]:
    """A pair of slices, each with its picture."""
    return pair | {"mine": pictures[pair["query_uri"]], "theirs": pictures[pair["uri"]]}
