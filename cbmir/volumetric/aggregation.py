"""Volumes found by their slices: the nearest slices of each slice of the query speak for the volumes that they are of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from cbmir.searching.exact import NO_KEY
from cbmir.searching.searchers import Codes, ExactSearch, Found, codes_of
from cbmir.select import connect
from cbmir.sql_files import bind, read
from cbmir.volumetric.slices import Slices


def aggregated(
    slices: Slices,
    gallery: np.ndarray,
    queries: np.ndarray,
    codes: Codes,
    mode: str,
    *,
    k: int,
    neighbors: int,
    metric: str,
    device: str,
) -> Iterator[tuple[np.ndarray, Found]]:
    """Blocks of query volumes -> (their keys (n,), their neighbors among the gallery's volumes); mode: 'count' or 'rank'.

    Where more gallery slices are equally near than places are left (blank slices: thousands), none of them has a vote: which ones take the places would
    be chance, and the same volumes for each such slice.

    gallery, queries: ascending keys of volumes that have a slice with a vector. codes: of volumes, as exclusion_codes has them. A volume
    that is excluded gets no slice's place, and a query is not its own neighbor.
    """
    slice_keys, volume_of = slices.of(gallery)
    search = ExactSearch(
        slices.vectors, slice_keys, _of_slices(slices, np.union1d(gallery, queries), codes), k=min(neighbors + 1, len(slice_keys)), metric=metric, device=device,
    )  # fmt: skip
    for block in _blocks(slices, queries, rows=search.rows):
        asked, of_query = slices.of(block)
        keys, vectors = slices.vectors.load(asked, part=slices.vectors.part_of(asked))
        near, distances, _ = search.block(keys, vectors)
        votes = _votes(distances, neighbors)
        found = _found(near[:, : votes.shape[1]], votes, of_query, slice_keys, volume_of)
        sizes = pa.table({"query_key": block, "n_slices": slices.counts(block)})
        yield block, _voted(mode, found, sizes, block, k=k, neighbors=neighbors)


def _of_slices(slices: Slices, volumes: np.ndarray, codes: Codes) -> Codes:
    """Exclusion codes of volumes as those of their slices, and one more column: slices of one volume exclude each other."""
    keys, volume_of = slices.of(volumes)
    own = np.searchsorted(volumes, volume_of)
    return keys, np.column_stack([own, codes_of(codes, volume_of)])


def _blocks(slices: Slices, queries: np.ndarray, *, rows: int) -> Iterator[np.ndarray]:
    """Query volumes in parts of about `rows` slices; ascending keys, as they are given."""
    sizes = np.cumsum(slices.counts(queries))
    yield from np.split(queries, np.flatnonzero(np.diff(sizes // rows)) + 1)


def _votes(distances: np.ndarray, neighbors: int) -> np.ndarray:
    """Distances (n, <= neighbors + 1), ascending, infinite in empty places -> which of the first `neighbors` vote (n, <= neighbors)."""
    within = distances[:, :neighbors]
    beyond = distances[:, neighbors:].min(axis=1, initial=np.inf)
    return within < beyond[:, None]


def _found(
    near: np.ndarray, votes: np.ndarray, of_query: np.ndarray, slice_keys: np.ndarray, volume_of: np.ndarray
) -> pa.Table:
    """Slices' neighbors (n, k) and which of them vote (n, k) -> rows (query_key, neighbor_key, rank) of volumes."""
    ranks = np.broadcast_to(np.arange(1, near.shape[1] + 1), near.shape)
    return pa.table(
        {
            "query_key": np.repeat(of_query, votes.sum(axis=1)),
            "neighbor_key": volume_of[np.searchsorted(slice_keys, near[votes])],
            "rank": ranks[votes],
        }
    )


def _voted(mode: str, found: pa.Table, asked: pa.Table, block: np.ndarray, *, k: int, neighbors: int) -> Found:
    """What sql/volumes/<mode>.sql makes of it, the first k of each query by (distance, key)."""
    connection = connect()
    connection.register("found", found)
    connection.register("asked", asked)
    text = read("volumes", mode)
    voted = (
        connection.sql(text, params=bind(text, {"k": neighbors}))
        .order("query_key, distance::FLOAT, neighbor_key")
        .to_arrow_table()
    )
    queries, volumes, distances = (voted[name].to_numpy() for name in ("query_key", "neighbor_key", "distance"))
    return first_k(block, queries, volumes, distances.astype(np.float32), k=k)


def first_k(block: np.ndarray, queries: np.ndarray, found: np.ndarray, distances: np.ndarray, *, k: int) -> Found:
    """Rows ordered by query, distance and key -> keys (n, k), distances (n, k), counts (n,) of the queries in `block`, ascending."""
    starts, ends = np.searchsorted(queries, block), np.searchsorted(queries, block, side="right")
    counts = np.minimum(ends - starts, k)
    places = starts[:, None] + np.arange(k)[None, :]
    filled = np.arange(k)[None, :] < counts[:, None]
    at = np.where(filled, places, 0)
    if len(found) == 0:
        return np.full(at.shape, NO_KEY), np.full(at.shape, np.inf, np.float32), counts
    return np.where(filled, found[at], NO_KEY), np.where(filled, distances[at], np.float32(np.inf)), counts
