"""A USearch graph: filled, emptied of vectors, saved and opened. The only file that calls USearch."""

from __future__ import annotations

from typing import Any

import numpy as np

from cbmir.errors import UserError

FIRST_ALONE = (
    1_000  # vectors added by one thread: threads that add to an almost empty graph leave nodes that no walk reaches
)
_FILLERS = 1 << 63  # keys from here on are no image's: those are positive int64


def new_graph(dim: int, codec: dict[str, Any], *, connectivity: int, expansion_add: int = 0):
    """An empty graph; `codec` as Codec.described has it."""
    from usearch.index import Index

    return Index(
        ndim=dim,
        metric=codec["metric"],
        dtype=codec["dtype"],  # USearch's own default depends on the processor
        connectivity=connectivity,
        expansion_add=expansion_add,
    )


def grow(graph, keys: np.ndarray, encoded: np.ndarray, *, threads: int = 0) -> None:
    """Add encoded vectors; threads 0: as many as cores."""
    keys = keys.astype(np.uint64)
    alone = max(0, min(len(keys), FIRST_ALONE - len(graph)))
    for rows, busy in ((slice(0, alone), 1), (slice(alone, None), threads)):
        if len(keys[rows]):
            graph.add(keys[rows], np.ascontiguousarray(encoded[rows]), threads=busy)


def erase(graph, keys: np.ndarray) -> None:
    """Remove vectors, and what USearch leaves of them.

    Its own removal forgets a key and keeps the vector, in memory and in the file. The places that became free are therefore filled with zeros,
    the centre of the others, and freed again. Edges through them still serve walks.
    """
    if len(keys) == 0:
        return
    graph.remove(keys.astype(np.uint64))
    kind = np.int8 if str(graph.dtype).lower().endswith("i8") else np.float32
    fillers = np.uint64(_FILLERS) + np.arange(len(keys), dtype=np.uint64)
    graph.add(fillers, np.zeros((len(keys), graph.ndim), kind), threads=1)
    graph.remove(fillers)


def contains(graph, keys: np.ndarray) -> np.ndarray:
    """keys (n,) int64 -> (n,) bool."""
    return np.atleast_1d(graph.contains(keys.astype(np.uint64)))


def walk(graph, encoded: np.ndarray, depth: int, *, expansion: int, threads: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Encoded queries (n, dim) -> keys (n, depth) int64 and graph distances (n, depth) float32; empty places: inf."""
    graph.expansion_search = max(expansion, depth)
    matches = graph.search(encoded, depth, threads=threads)
    near = np.atleast_2d(matches.keys).astype(np.int64)
    distances = np.atleast_2d(matches.distances).astype(np.float32)
    # a lone query comes back 1-D and unpadded, others padded with key 0 and NaN
    counts = matches.counts if len(encoded) > 1 else np.array([len(matches)])
    filled = np.arange(near.shape[1])[None, :] < counts[:, None]
    return near, np.where(filled, distances, np.inf)


def open_graph(graph, path: str, *, rows: int, named: str, mapped: bool = True):
    """`graph` with the content of a file, mapped into memory or loaded to be changed."""
    try:
        graph.view(path) if mapped else graph.load(path)
    except (RuntimeError, ValueError, OSError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(f"{named} cannot be opened ({first}); rebuild it with --overwrite") from error
    if len(graph) != rows:
        raise UserError(
            f"{named} holds {len(graph):,} vectors; its run.json says {rows:,}; rebuild it with --overwrite"
        )
    return graph
