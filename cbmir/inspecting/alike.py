"""Perceptual hashes that differ in few bits -> groups."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from cbmir.sql_files import bind, read

MOST_DISTANCE = 3  # four bands of 16 bits find all pairs up to here
_MOST_IN_BAND = 2_000


def hash_groups(connection: duckdb.DuckDBPyConnection, hashes: np.ndarray, *, distance: int) -> pa.Table:
    """Distinct hashes (n,) int64 -> table(perceptual_hash, hash_group): alike ones, also by way of others, have one group, its least hash."""
    groups = hashes.copy()
    if distance and len(hashes):
        bits = hashes.view(np.uint64)
        values = [(bits >> np.uint64(16 * band)) & np.uint64(0xFFFF) for band in range(4)]
        bands = pa.table({
            "hash": np.tile(hashes, 4), "band": np.repeat(np.arange(4, dtype=np.int32), len(hashes)), "value": np.concatenate(values).astype(np.int64),
        })  # fmt: skip
        connection.register("bands", bands)
        text = read("staging", "alike_hashes")
        pairs = connection.sql(text, params=bind(text, {"distance": distance, "most": _MOST_IN_BAND})).to_arrow_table()
        groups = components(hashes, pairs["a"].to_numpy(), pairs["b"].to_numpy())
    return pa.table({"perceptual_hash": hashes, "hash_group": groups})


def components(nodes: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distinct nodes (n,) int64 and pairs a, b (m,) of them -> the least node that each can be reached from, by pairs (n,)."""
    order = np.argsort(nodes)
    left, right = (np.searchsorted(nodes, side, sorter=order) for side in (a, b))
    label = np.arange(len(nodes))  # places in ascending order
    while True:
        least = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, left, least)
        np.minimum.at(label, right, least)
        label = label[label]  # halves the way to the group's least
        if (label == before).all():
            break
    groups = np.empty_like(nodes)
    groups[order] = nodes[order][label]
    return groups
