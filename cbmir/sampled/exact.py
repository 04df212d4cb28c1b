"""The exact neighbors of all samples of one order: a Ray task, one pass over the vectors."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from cbmir.exclusions import exclusion_codes
from cbmir.sampled.cells import Cell, Sampled, neighbors_of
from cbmir.sampled.options import ScalingOptions
from cbmir.search import ROWS_PER_FILE, as_table
from cbmir.searching.nested import NestedSearch, Sample
from cbmir.searching.threads import use_threads
from cbmir.store import Study, run_record
from cbmir.vectors import Vectors


def search_samples(
    address: str, sampled: Sampled, queries: np.ndarray, inputs: dict[str, str], options: ScalingOptions
) -> None:
    """Publish the exact neighbors of each sample of an order, and how long they took.

    queries (n,) ascending keys that have a vector.
    """
    use_threads(options.cpus_per_task)
    study = Study(address)
    vectors = Vectors(study, sampled.encoder)
    codes = exclusion_codes(study, options.exclude_same)
    sample = Sample(sampled.order, sampled.distinct)
    search = NestedSearch(vectors, [sample], codes, k=options.depth, metric=options.metric, device=options.device)
    with contextlib.ExitStack() as stack:
        outs = [stack.enter_context(study.publishing(*_address(sampled, asked))) for asked in sampled.asked]
        for block, (keys, tile) in enumerate(vectors.tiles(queries, rows=search.rows)):
            by_size = dict(zip(sample.sizes, search.block(keys, tile)[0], strict=True))
            for out, found in zip(outs, map(by_size.get, sampled.sizes), strict=True):
                for part, start in enumerate(range(0, len(keys), step := max(1, ROWS_PER_FILE // options.depth))):
                    rows = slice(start, start + step)
                    table = as_table(keys[rows], *(array[rows] for array in found))
                    out.write_table(table, f"part-{block:05d}-{part:03d}.parquet", "neighbors")
        took = dict(zip(sample.sizes, search.seconds[0].tolist(), strict=True))
        for out, size in zip(outs, sampled.sizes, strict=True):
            out.run = _record(sampled.sampling, sampled.seed, inputs, options, seconds=took[size])


def _address(sampled: Sampled, asked: int) -> tuple[str, ...]:
    return neighbors_of(sampled.encoder, sampled.sampling, sampled.seed, asked)


def _record(
    sampling: str, seed: int, inputs: dict[str, str], options: ScalingOptions, *, seconds: float
) -> dict[str, Any]:
    parameters = options.question() | {"sampling": sampling, "seed": seed}
    return run_record("scaling_neighbors", parameters=parameters, inputs=inputs, rows=0, seconds=seconds)


def is_searched(study: Study, cell: Cell, inputs: dict[str, str], options: ScalingOptions) -> bool:
    """Whether the exact neighbors of a cell's sample are there, of the same inputs."""
    before = study.run_of(*neighbors_of(cell.encoder, cell.sampling, cell.seed, cell.size))
    draft = _record(cell.sampling, cell.seed, inputs, options, seconds=0.0)
    return before is not None and before["fingerprint"] == draft["fingerprint"]
