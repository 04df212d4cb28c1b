"""The files of a finished index -> an OpenIndex."""

from __future__ import annotations

import os
from typing import Any

from cbmir.indexing.codec import Codec
from cbmir.indexing.files import refuse_damaged
from cbmir.indexing.graph import open_graph
from cbmir.indexing.opened import OpenIndex
from cbmir.indexing.rows import Rows, Together
from cbmir.indexing.shard import Shape, shard_name

LAYOUT = 2  # of an index's files


def files_of_run(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> bytes and sha256 of every file of all shards."""
    return {name: told for shard in run["shards"] for name, told in shard["files"].items()}


def codec_of(directory: str, run: dict[str, Any]) -> Codec:
    made = run["parameters"]
    return Codec.opened(directory, metric=made["metric"], dtype=made["dtype"], scale=run["codec"]["scale"])


def opened(directory: str, run: dict[str, Any], named: str) -> OpenIndex:
    """Graphs and vectors of all shards in a local directory, mapped; UserError for a damaged file."""
    refuse_damaged(directory, files_of_run(run), named=named)
    codec = codec_of(directory, run)
    made = run["parameters"]
    shape = Shape(run["dim"], run["stored_dtype"], codec, made["connectivity"], made["expansion_add"])
    graphs, rows = [], []
    for number, told in enumerate(run["shards"]):
        stem = os.path.join(directory, shard_name(number))
        graphs.append(open_graph(shape.graph(), f"{stem}.usearch", rows=told["rows"], named=named))
        rows.append(Rows.opened(stem, rows=told["stored"], named=named))
    return OpenIndex(graphs, Together(rows), codec, run)
