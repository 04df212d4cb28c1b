"""What all samples of an encoder's gallery are judged by: who can be answered by the whole gallery, and how common each query's label is."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.evaluating.options import LEVELS, SLICES
from cbmir.evaluating.searches import Searched
from cbmir.evaluating.staging import attach_inputs, attach_slices, lay_out, run_file, stage_candidates
from cbmir.sampled.options import ScalingOptions
from cbmir.select import connect
from cbmir.sql_files import create
from cbmir.store import Study

PREVALENCE = "prevalence"


@dataclass(frozen=True)
class Frame:
    """Tables of the whole gallery."""

    answerable: pa.Table  # (query_key, relevance)
    prevalence: pa.Table  # (image_key, slice_by, slice)


def searched_sample(
    encoder: str, index: str, options: ScalingOptions, *, at: tuple[str, ...], sample: np.ndarray, depth: int
) -> Searched:
    """A search of the keys `sample` (m,), whose neighbors lie at `at`, as evaluation knows searches."""
    parameters = {
        "index": index, "queries": options.queries, "gallery": options.gallery, "exclude_same": list(options.exclude_same), "k": depth
    }  # fmt: skip
    return Searched(encoder, index, {"parameters": parameters}, at=at, sample=sample)


def laid_out(
    study: Study, searched: Searched, neighbors: pa.Table | None, *, threads: int
) -> duckdb.DuckDBPyConnection:
    """A connection with the inputs of sql/staging for a sample's search; `neighbors`: those that lie in no file."""
    connection = connect()
    connection.execute(f"SET threads = {int(threads)}")
    attach_inputs(connection, study, searched, neighbors=neighbors)
    attach_slices(connection, (*SLICES, PREVALENCE), given=(PREVALENCE,))
    create(connection, "patients", "staging", "patients")
    return connection


def frame(address: str, encoder: str, gallery: np.ndarray, options: ScalingOptions) -> Frame:
    """gallery (n,) ascending keys of the embedded images of the whole gallery."""
    study = Study(address)
    searched = searched_sample(encoder, "", options, at=(), sample=gallery, depth=options.depth)
    empty = pa.table(
        {
            "query_key": pa.array([], pa.int64()),
            "neighbor_key": pa.array([], pa.int64()),
            "rank": pa.array([], pa.int16()),
        }
    )
    connection = laid_out(study, searched, empty, threads=options.cpus_per_task)
    lay_out(connection)
    answerable = []
    for level in LEVELS:
        stage_candidates(connection, level)
        found = run_file(connection, "staging", "answerable")
        answerable.append(found.append_column("relevance", pa.array([level] * len(found), pa.string())))
    connection.register("whole", pa.table({"image_key": gallery}))
    return Frame(pa.concat_tables(answerable), run_file(connection, "staging", PREVALENCE))
