"""Vectors drawn as an encoder's lie: a narrow cone, clusters, far fewer directions than numbers."""

from __future__ import annotations

import numpy as np

CLUSTERS, INTRINSIC = 1_000, 32
CONE, SPREAD, NOISE = (
    1.0,
    0.7,
    0.1,
)  # of the common direction, within a cluster, and in all directions, against between clusters


def drawn(n: int, dim: int, *, seed: int, spread: float = SPREAD) -> np.ndarray:
    """(n, dim) float32: a Gaussian mixture in INTRINSIC directions, the same clusters whatever the seed, on a common offset."""
    return drawn_with_clusters(n, dim, seed=seed, spread=spread)[0]


def drawn_with_clusters(
    n: int, dim: int, *, seed: int | list[int], spread: float = SPREAD, together: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(n, dim) float32 and the cluster (n,) of each; together: as many after one another are of one cluster, as slices are of one volume."""
    common = np.random.default_rng(0)
    axes = common.standard_normal((INTRINSIC, dim)).astype(np.float32) / np.sqrt(np.float32(INTRINSIC))
    middles = common.standard_normal((CLUSTERS, INTRINSIC)).astype(np.float32)
    cone = CONE * common.standard_normal(dim).astype(np.float32)
    rng = np.random.default_rng([1, *np.atleast_1d(seed)])
    out, clusters = np.empty((n, dim), np.float32), np.empty(n, np.int64)
    for start in range(0, n, 65_536):
        rows = out[start : start + 65_536]
        several = rng.integers(0, CLUSTERS, -(-len(rows) // together))
        clusters[start : start + 65_536] = np.repeat(several, together)[: len(rows)]
        inner = middles[clusters[start : start + 65_536]]
        inner = inner + spread * rng.standard_normal(inner.shape, dtype=np.float32)
        rows[:] = inner @ axes + cone + NOISE * rng.standard_normal(rows.shape, dtype=np.float32)
    return out, clusters


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
