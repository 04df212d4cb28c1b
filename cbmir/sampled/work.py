"""What is done for one sample, in a Ray task: its neighbors by an index, if one is asked for, and the figures of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.evaluating.options import LEVELS, EvaluateOptions
from cbmir.evaluating.scoring import completed
from cbmir.exclusions import exclusion_codes
from cbmir.sampled.approximate import Walked, walk_sample
from cbmir.sampled.cells import Cell, Sampled, neighbors_of
from cbmir.sampled.frame import Frame, searched_sample
from cbmir.sampled.options import ScalingOptions
from cbmir.sampled.scoring import SampleScores, score_sample
from cbmir.schemas import METRICS, SCALING_COSTS, VANISHED
from cbmir.searching.threads import use_threads
from cbmir.store import Study
from cbmir.vectors import Vectors

METRICS_FILE, COSTS_FILE, VANISHED_FILE, DRAWS_FILE = (
    "metrics.parquet",
    "costs.parquet",
    "vanished.parquet",
    "draws.parquet",
)

IN_REGION = (
    "label_in_region"  # ranks the neighbors of a region anew, for which an index is not asked for enough of them
)


def study_exact(
    address: str,
    cell: Cell,
    draft: dict[str, Any],
    sampled: Sampled,
    queries: np.ndarray,
    frame: Frame,
    options: ScalingOptions,
) -> None:
    """Publish the figures of exact search of one sample, whose neighbors are found already."""
    study = Study(address)
    at = neighbors_of(cell.encoder, cell.sampling, cell.seed, cell.size)
    searched = study.require(*at)
    costs = {"n_queries": len(queries), "search_seconds": searched["seconds"]}
    _publish(study, cell, draft, sampled, frame, options, neighbors=None, costs=costs)


def study_index(
    address: str,
    cells: list[Cell],
    drafts: list[dict[str, Any]],
    sampled: Sampled,
    queries: np.ndarray,
    frame: Frame,
    options: ScalingOptions,
) -> None:
    """Publish the figures of an index of one sample: at the fixed expansion, at the tuned one, or at both.

    cells: of one sample and one index. queries (n,) ascending keys that have a vector.
    """
    use_threads(options.cpus_per_task)
    study = Study(address)
    vectors = Vectors(study, sampled.encoder)
    codes = exclusion_codes(study, options.exclude_same)
    by_name = {cell.index: (cell, draft) for cell, draft in zip(cells, drafts, strict=True)}
    keys = sampled.keys(cells[0].size)
    for walked in walk_sample(vectors, keys, queries, codes, wanted=tuple(by_name), options=options):
        cell, draft = by_name[walked.index]
        _publish(
            study,
            cell,
            draft,
            sampled,
            frame,
            options,
            neighbors=walked.neighbors,
            costs=_costs(walked, options) | {"n_queries": len(queries)},
        )


def _costs(walked: Walked, options: ScalingOptions) -> dict[str, Any]:
    return {
        "dtype": options.index.dtype, "expansion_search": walked.expansion, "rerank": options.index.rerank,
        "build_seconds": walked.build_seconds, "search_seconds": walked.search_seconds, "graph_bytes": walked.graph_bytes,
        "peak_bytes": walked.peak_bytes,
    }  # fmt: skip


def _publish(
    study: Study,
    cell: Cell,
    draft: dict[str, Any],
    sampled: Sampled,
    frame: Frame,
    options: ScalingOptions,
    *,
    neighbors: pa.Table | None,
    costs: dict[str, Any],
) -> None:
    """Score one search of a sample, and publish its cell."""
    keys = sampled.keys(cell.size)
    exact = neighbors_of(cell.encoder, cell.sampling, cell.seed, cell.size)
    depth = options.depth if neighbors is None else options.walk_depth
    searched = searched_sample(cell.encoder, cell.index, options, at=exact, sample=keys, depth=depth)
    levels = LEVELS if depth == options.depth else tuple(name for name in LEVELS if name != IN_REGION)
    asked = EvaluateOptions(ks=options.ks, metrics=options.scores, resamples=options.resamples, levels=levels)
    recall_at = min(options.index.recall_at, depth)
    scores = score_sample(
        study, searched, neighbors, exact, frame, asked, recall_at=recall_at, threads=options.cpus_per_task
    )
    sample = {
        "encoder": cell.encoder, "index": cell.index, "sampling": cell.sampling, "seed": cell.seed, "sample_size": cell.size,
        "gallery_size": len(keys),
    }  # fmt: skip
    tables = {
        METRICS_FILE: ("scaling", completed(scores.metrics, METRICS, sample)),
        VANISHED_FILE: ("vanished", completed(scores.vanished, VANISHED, sample)),
        COSTS_FILE: (
            "scaling_costs",
            _cost_row(study, cell, scores, sample | costs | {"k": depth}, len(keys), recall_at, options),
        ),
    }
    with study.publishing(*cell.parts) as out:
        for name, (dataset, table) in tables.items():
            out.write_table(table, name, dataset)
        study.write_table(scores.draws, *out.parts, DRAWS_FILE)
        out.run = draft | {"rows": len(scores.metrics)}


def _cost_row(
    study: Study,
    cell: Cell,
    scores: SampleScores,
    known: dict[str, Any],
    size: int,
    recall_at: int,
    options: ScalingOptions,
) -> pa.Table:
    vectors = Vectors(study, cell.encoder)
    bytes_each = vectors.dim * (2 if vectors.run.get("dtype") == "float16" else 4)
    row = dict.fromkeys(SCALING_COSTS.names) | {
        "recall": scores.recall, "recall_at": recall_at,
        "threads": options.cpus_per_task, "vector_bytes": size * bytes_each,
    } | known  # fmt: skip
    return pa.Table.from_pylist([row], schema=SCALING_COSTS)
