"""An index of one graph in a local directory, for whoever wants it for a while and no dataset of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cbmir.indexing.build import fitted
from cbmir.indexing.shard import TILE, Shape, build, shard_name, totals
from cbmir.vectors import Vectors


def build_local(
    directory: str,
    vectors: Vectors,
    keys: np.ndarray,
    *,
    metric: str,
    dtype: str,
    pca: int | None,
    connectivity: int,
    expansion_add: int,
    threads: int,
) -> dict[str, Any]:
    """Write an index of the ascending `keys` -> what `opening.opened` asks of its run.json; threads 0: as many as cores."""
    codec = fitted(vectors, keys, metric=metric, dtype=dtype, pca=pca)
    codec.save(directory)
    stored = vectors.run.get("dtype") or "float32"
    shape = Shape(vectors.dim, stored, codec, connectivity, expansion_add, threads)
    tiles = vectors.tiles(keys, rows=TILE)
    shards = [build(shape, tiles, os.path.join(directory, shard_name(0)), lambda rows: None)]
    parameters = {"metric": metric, "dtype": dtype, "connectivity": connectivity, "expansion_add": expansion_add}
    return {
        "parameters": parameters,
        "dim": vectors.dim,
        "stored_dtype": stored,
        "codec": codec.described(),
        "shards": shards,
        **totals(shards),
    }
