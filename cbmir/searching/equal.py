"""Gallery rows that no search needs: of many equal vectors, a query's neighbors are the first by key that it does not exclude.

Archives hold thousands of equal images (blank slices, frames without a signal). Each is as near to any query as the others, so that no bound tells
them apart, and without this every pair of them would be computed and sorted.
"""

from __future__ import annotations

import numpy as np
import torch

from cbmir.searching.distance import Block

_MANY = 64  # equal rows that are worth looking for


def without_surplus(tile: Block, *, k: int) -> Block:
    """The tile less those rows that are among the first k of no query; itself where there are none.

    Rows are looked for by one number each, their product with fixed numbers, and compared whole where it is shared: those that it misses, and
    those whose product is rounded differently, are only not left out.
    """
    most = max(_MANY, k + 1)
    if len(tile.keys) <= most:
        return tile
    vectors = torch.from_numpy(tile.vectors)
    generator = torch.Generator().manual_seed(0)
    sums = torch.mv(vectors, torch.randn(vectors.shape[1], generator=generator)).numpy()
    _, group, counts = np.unique(sums, return_inverse=True, return_counts=True)
    needed = np.ones(len(sums), bool)
    for number in np.flatnonzero(counts > most):
        rows = np.flatnonzero(group == number)
        rows = rows[(tile.vectors[rows] == tile.vectors[rows[0]]).all(axis=1)]
        needed[rows] = False
        needed[rows[first_of(tile.keys[rows], tile.codes[rows], k=k)]] = True
    if needed.all():
        return tile
    return Block(tile.keys[needed], tile.vectors[needed], tile.codes[needed])


def first_of(keys: np.ndarray, codes: np.ndarray, *, k: int) -> np.ndarray:
    """Of rows at one distance from every query, the places (p,) of those that can be among a query's first k, in the order of their keys.

    keys: (m,). codes: (m, c), as Block has them. Among the first p rows by key a query excludes at most itself and, of each column, as many as
    share one code: the fewest rows of which k are left whatever the query are enough.
    """
    order = np.argsort(keys)
    excluded = np.ones(len(order), np.int64)
    for column in codes[order].T:
        excluded += np.maximum.accumulate(_occurrences(column) * (column >= 0))
    enough = np.flatnonzero(np.arange(1, len(order) + 1) - excluded >= k)
    return order[: enough[0] + 1] if len(enough) else order


def _occurrences(codes: np.ndarray) -> np.ndarray:
    """How often each code has come up to its place, itself included (m,)."""
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    starts = np.flatnonzero(np.append(True, sorted_codes[1:] != sorted_codes[:-1])) if len(codes) else np.zeros(0, int)
    lengths = np.diff(np.append(starts, len(codes)))
    out = np.empty(len(codes), np.int64)
    out[order] = np.arange(len(codes)) - np.repeat(starts, lengths) + 1
    return out
