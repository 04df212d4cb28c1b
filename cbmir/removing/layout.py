"""What a removal does with each dataset of a study."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from cbmir.store import Study, path_name

# how deep the files of a dataset lie below its directory (embeddings/encoder=E: 1), for those whose rows are of one image each
ROWS = {"image_facts": 0, "packed": 0, "packed_failures": 0, "embeddings": 1, "failures": 1, "manifest": 0}
TEXTS = {"remarks": 1}  # rows that may name images
FIGURES = {
    "problems": 0,
    "neighbors": 2,
    "query_metrics": 2,
    "metrics": 0,
    "comparisons": 0,
    "confusions": 0,
    "hubness": 0,
    "classification": 1,
    "predictions": 1,
    "as_published": 3,
    "scaling_cells": 3,
    "scaling_neighbors": 3,
    "scaling": 0,
    "scaling_costs": 0,
    "vanished": 0,
    "fits": 0,
    "effort_points": 2,
    "effort_graphs": 2,
    "search_effort": 0,
    "image_sizes": 0,
    "volumes": 0,
    "slices": 1,
    "matched_slices": 2,
    "report": 0,
    "figures": 0,
    "paper": 0,
}  # made of many images: outdated, and deleted; what is made of others stands behind them
INDEXES = {"index": 2}

KNOWN = ROWS | TEXTS | FIGURES | INDEXES


def places(study: Study, datasets: dict[str, int]) -> Iterator[tuple[str, ...]]:
    """The addresses of the datasets that the study has: ('manifest',), ('neighbors', E, I) ..."""
    for dataset, depth in datasets.items():
        found: list[tuple[str, ...]] = [(dataset,)] if study.exists(dataset) else []
        for _ in range(depth):
            found = [(*parts, _segment(parts[0], name)) for parts in found for name in study.names(*parts)]
        yield from found


def _segment(dataset: str, name: str) -> str:
    """A name of `Study.names` as the directory that it was read from."""
    return f"encoder={path_name(name)}" if dataset in ("embeddings", "failures", "predictions") else path_name(name)


def names_of(parts: tuple[str, ...]) -> list[str]:
    """The encoder, and the index, whose dataset it is."""
    return [unquote(part).removeprefix("encoder=") for part in parts[1:]]


def words(parts: tuple[str, ...]) -> str:
    """A dataset for people: 'embeddings of pixels32', 'neighbors of pixels32 by exact'."""
    return " ".join([parts[0], *(f"{word} {name}" for word, name in zip(("of", "by"), names_of(parts), strict=False))])
