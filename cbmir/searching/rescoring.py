"""Candidates of a graph, scored as exact search scores them.

Each query has its own candidates. Their products with it are computed in float32; those that a bound on its rounding cannot exclude from the first k
are scored in float64 (distance.py), so that distances and order are exact search's, bit by bit.

The bound: a sum of dim products in float32, in any order, is off by at most dim u / (1 - dim u) * |q| |g| with u = 2^-24 (Higham, Accuracy and
Stability of Numerical Algorithms, 2002, section 3.1); twice that is taken. Distances within `_ONE` of each other, as a share, may round to one float32
and are then ordered by key: both stay.
"""

from __future__ import annotations

import numpy as np
import torch

from cbmir.searching.distance import METRICS, Block

_U = 2.0**-24
_ONE = 2.0**-21
_PLAIN = (1e-15, 1e15)  # lengths whose squares are float32 numbers; of others nothing is excluded


def rescored(
    metric: str, queries: Block, rows: np.ndarray, keys: np.ndarray, vectors: np.ndarray, allowed: np.ndarray, *, k: int
) -> np.ndarray:
    """Distances (n, c) float32 of queries[rows] (n,) to their candidates, inf where a pair is not allowed or is none of a query's first k.

    keys (n, c) int64, vectors (n, c, dim) float32, allowed (n, c) bool.
    """
    n, c, _ = vectors.shape
    out = np.full((n, c), np.inf, np.float32)
    if c > k:
        near, off = _in_float32(metric, queries.vectors[rows], vectors)
        far = np.where(allowed, near + off, np.inf)
        last = np.partition(far, k - 1, axis=1)[:, k - 1 : k]
        allowed = allowed & (near - off <= last)
    row, place = np.nonzero(allowed)
    candidates = Block(keys[row, place], vectors[row, place])
    out[row, place] = METRICS[metric].distances(queries, candidates, rows[row], np.arange(len(row)))
    return out


def _in_float32(metric: str, queries: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, c) float64 that ascend as distances do, and how far each may be off."""
    q, g = torch.from_numpy(np.ascontiguousarray(queries)), torch.from_numpy(vectors)
    dots = torch.bmm(g, q[:, :, None])[:, :, 0].double()  # (n, c)
    lengths = torch.linalg.vector_norm(g, dim=2).double() * (1 + 2 * q.shape[1] * _U)
    own = torch.linalg.vector_norm(q.double(), dim=1)[:, None]
    sizes = own * lengths
    off = 2 * q.shape[1] * _U / (1 - 2 * q.shape[1] * _U) * sizes
    if metric == "cos":
        # of a product that is off by e, and lengths that are off by dim u: at most their sum
        near = 1 - dots / sizes
        off = off / sizes + 4 * q.shape[1] * _U
    elif metric == "ip":
        near = 1 - dots
    else:
        near = own**2 + lengths**2 - 2 * dots
        off = 2 * off + 8 * q.shape[1] * _U * lengths**2
    plain = (lengths > _PLAIN[0]) & (lengths < _PLAIN[1]) & (own > _PLAIN[0]) & (own < _PLAIN[1])
    near, off = torch.where(plain, near, 0.0), torch.where(plain, off, torch.inf)
    scale = near.abs() + (1 if metric != "l2" else 0)
    return near.numpy(), (off + 2 * _ONE * scale).numpy()
