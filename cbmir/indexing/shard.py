"""One shard of an index: a graph and the vectors it was made of, as files.

shard-00000.usearch  shard-00000.keys.npy  shard-00000.vectors.npy
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cbmir.indexing.codec import Codec
from cbmir.indexing.graph import erase, grow, new_graph, open_graph
from cbmir.indexing.rows import RowFiles, Rows

TILE = 4_096
Report = Callable[[int], None]  # rows since the last call
Tiles = Iterator[tuple[np.ndarray, np.ndarray]]  # keys, vectors


@dataclass(frozen=True)
class Shape:
    """What all shards of an index have in common."""

    dim: int
    stored: str  # type of the stored vectors: float32 or float16
    codec: Codec
    connectivity: int
    expansion_add: int
    threads: int = 0  # 0: as many as cores

    def graph(self):
        return new_graph(
            self.codec.graph_dim,
            self.codec.described(),
            connectivity=self.connectivity,
            expansion_add=self.expansion_add,
        )


def files_of(stem: str) -> tuple[str, str, str]:
    return f"{stem}.usearch", f"{stem}.keys.npy", f"{stem}.vectors.npy"


def shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def build(shape: Shape, tiles: Tiles, stem: str, report: Report) -> dict[str, Any]:
    """Write a shard at local path `stem` -> what its run.json says of it."""
    graph = shape.graph()
    with RowFiles(stem, shape.dim, shape.stored) as rows:
        without = _add(shape, graph, rows, tiles, report)
    return _saved(graph, stem, sum(map(len, rows.keys)), without)


def change(
    shape: Shape,
    stem: str,
    before: dict[str, Any],
    old_stem: str,
    *,
    gone: np.ndarray,
    new: Tiles,
    report: Report,
) -> dict[str, Any]:
    """The shard at `old_stem`, which is left as it is, without the keys `gone` and with `new` vectors, written at `stem`.

    The graph is not built again: keys leave it (graph.erase) and new ones are added.
    """
    graph = shape.graph()
    open_graph(graph, files_of(old_stem)[0], rows=before["rows"], named=old_stem, mapped=False)
    old = Rows.opened(old_stem, rows=before["stored"], named=old_stem)
    undirected = np.array(before["without_direction"], np.int64)
    without = np.setdiff1d(undirected, gone).tolist()
    erase(graph, np.setdiff1d(np.intersect1d(gone, old.keys), undirected))
    with RowFiles(stem, shape.dim, shape.stored) as rows:
        for keys, vectors in old.in_file_order(TILE):
            stay = ~np.isin(keys, gone)
            rows.append(keys[stay], vectors[stay])
        without += _add(shape, graph, rows, new, report)
    return _saved(graph, stem, sum(map(len, rows.keys)), without)


def _add(shape: Shape, graph, rows: RowFiles, tiles: Tiles, report: Report) -> list[int]:
    """Vectors into graph and files -> the keys that have no direction."""
    without: list[int] = []
    for keys, vectors in tiles:
        usable = shape.codec.usable(vectors)
        without += keys[~usable].tolist() if not np.all(usable) else []
        rows.append(keys, vectors)
        inside = np.broadcast_to(usable, keys.shape)
        grow(graph, keys[inside], shape.codec.encode(vectors[inside]), threads=shape.threads)
        report(len(keys))
    return without


def _saved(graph, stem: str, stored: int, without: list[int]) -> dict[str, Any]:
    """Save the graph -> rows in it, rows in the files, and of each file size and checksum."""
    if len(graph) + len(without) != stored:
        raise RuntimeError(f"the graph holds {len(graph):,} of {stored - len(without):,} vectors")
    graph.save(files_of(stem)[0])
    return {
        "rows": len(graph),
        "stored": stored,
        "without_direction": sorted(without),
        "files": {os.path.basename(path): _told(path) for path in files_of(stem)},
    }


def _told(path: str) -> dict[str, Any]:
    return {"bytes": os.path.getsize(path), "sha256": sha256(path)}


def totals(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """What run.json says of all shards together."""
    files = {name: told["bytes"] for shard in shards for name, told in shard["files"].items()}
    return {
        "rows": sum(shard["rows"] for shard in shards),
        "zero_vectors": sum(len(shard["without_direction"]) for shard in shards),
        "size_bytes": sum(files.values()),
        "graph_bytes": sum(size for name, size in files.items() if name.endswith(".usearch")),
    }


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
