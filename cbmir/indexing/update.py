"""An index brought up to its embeddings without being built again: new images are added, withdrawn and changed ones leave it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from cbmir.indexing.files import keep, writing
from cbmir.indexing.rows import Rows, Together
from cbmir.indexing.shard import TILE, Shape, build, change, shard_name
from cbmir.progress import Progress
from cbmir.store import Publication
from cbmir.vectors import Vectors

MOST_GONE = (
    0.1  # share of a shard's vectors that may leave it before it is built again: their empty places lengthen every walk
)
Shards = list[dict[str, Any]]  # as run.json has them


def old_rows(directory: str, shards: Shards) -> list[Rows]:
    stems = [os.path.join(directory, shard_name(number)) for number in range(len(shards))]
    return [Rows.opened(stem, rows=told["stored"], named=stem) for stem, told in zip(stems, shards, strict=True)]


def differences(vectors: Vectors, wanted: np.ndarray, directory: str, shards: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Ascending keys: those that have to leave the index, and those that have to be added; a vector that has changed is in both.

    Every vector of the index is compared with the study's: that the index holds the embeddings is looked at, not assumed.
    """
    stored = Together(old_rows(directory, shards))
    have = np.sort(np.concatenate([rows.keys for rows in stored.shards]))
    both = np.intersect1d(wanted, have, assume_unique=True)
    changed = [np.zeros(0, np.int64)]
    with Progress("index: compare", len(both), unit="vectors") as progress:
        for keys, tile in vectors.tiles(both, rows=TILE):
            changed.append(keys[(stored.vectors(keys) != tile).any(axis=1)])
            progress.advance(len(keys))
    other = np.sort(np.concatenate(changed))
    gone = np.union1d(np.setdiff1d(have, wanted, assume_unique=True), other)
    return gone, np.union1d(np.setdiff1d(wanted, have, assume_unique=True), other)


def update_shards(
    out: Publication,
    old: str,
    shards: Shards,
    shape: Shape,
    *,
    gone: np.ndarray,
    new: np.ndarray,
    vectors: Vectors | None,
) -> tuple[Shards, dict[str, int]]:
    """Write all shards of the index in directory `old` without `gone`, the smallest with `new` -> (what run.json says, how many shards were what).

    Shards that nothing happens to are linked; one that loses more than MOST_GONE is built again from its own vectors.
    """
    rows = old_rows(old, shards)
    smallest = min(range(len(shards)), key=lambda number: len(rows[number]))
    told, counts = [], {"kept": 0, "changed": 0, "rebuilt": 0}
    with writing(out) as directory, Progress("index", len(new), unit="new vectors") as progress:
        for number, before in enumerate(shards):
            name = shard_name(number)
            stem, old_stem = os.path.join(directory, name), os.path.join(old, name)
            leaving = np.intersect1d(rows[number].keys, gone)
            coming = new if number == smallest else new[:0]
            if not len(leaving) and not len(coming):
                for file in before["files"]:
                    keep(os.path.join(old, file), os.path.join(directory, file))
                told.append(before)
                counts["kept"] += 1
                continue
            tiles = vectors.tiles(coming, rows=TILE) if len(coming) else iter(())
            if len(leaving) > MOST_GONE * len(rows[number]):
                stay = _staying(rows[number], leaving, tiles)
                told.append(build(shape, stay, stem, lambda count: None))
                counts["rebuilt"] += 1
            else:
                told.append(change(shape, stem, before, old_stem, gone=leaving, new=tiles, report=progress.advance))
                counts["changed"] += 1
    return told, counts


def _staying(rows: Rows, leaving: np.ndarray, new: Iterator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for keys, vectors in rows.in_file_order(TILE):
        stay = ~np.isin(keys, leaving)
        yield keys[stay], np.asarray(vectors[stay], np.float32)
    yield from new
