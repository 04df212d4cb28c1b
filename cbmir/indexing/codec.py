"""From stored vectors to what a graph holds of them.

    cos   u(x) - m    in squared Euclidean distance:  |(u(q) - m) - (u(g) - m)|^2 = |u(q) - u(g)|^2 = 2 (1 - cosine), with u(x) = x / |x|
    l2    x - m       likewise
    ip    x           by inner product, which knows no common centre

Both orders are those of the metric, whatever the centre m is. Embeddings of one model lie in a narrow cone: without their common direction, the mean of a
sample, the few bits of bfloat16 and of int8 are spent on what distinguishes them. With `pca`, a graph holds the coordinates along that many principal
axes of the sample: a walk then reads a fraction of the bytes, and what the other axes add to a distance is missing from it. Everything is multiplied by one number so that int8 is used to its
ends (the 0.9999 quantile of a sample; what is beyond is clipped) and float16 does not overflow. Distances in a graph are therefore only good for
choosing candidates; theirs are computed from the stored vectors afterwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

FILES = ("centre.npy", "axes.npy")
DTYPES = ("f32", "f16", "bf16", "i8")
_QUANTILE = 0.9999
_LARGEST = {"i8": 127.0, "f16": 16.0, "bf16": 1.0, "f32": 1.0}  # of a number in the graph; float16 ends at 65,504


@dataclass(frozen=True)
class Codec:
    """How the vectors of one index are written into its graph."""

    metric: str  # cos, l2, ip
    dtype: str
    centre: np.ndarray  # (dim,) float32
    scale: float
    axes: np.ndarray | None = None  # (dim, pca) float32, orthonormal columns; None: all coordinates as they are

    @classmethod
    def fitted(cls, sample: np.ndarray, *, metric: str, dtype: str, pca: int | None = None) -> Codec:
        """To a sample (n, dim) float32 of the gallery; pca: principal axes, at most dim."""
        start = cls(metric, dtype, np.zeros(sample.shape[1], np.float32), 1.0)
        told = start._told_apart(sample)
        centre = start.centre if metric == "ip" else told.mean(axis=0, dtype=np.float64).astype(np.float32)
        axes = None if pca is None else _principal_axes(told - centre, pca)
        plain = cls(metric, "f32", centre, 1.0, axes).encode(sample)
        largest = float(np.quantile(np.abs(plain), _QUANTILE)) if plain.size else 0.0
        return cls(metric, dtype, centre, _LARGEST[dtype] / largest if largest > 0 else 1.0, axes)

    @classmethod
    def opened(cls, directory: str, *, metric: str, dtype: str, scale: float) -> Codec:
        """From the files of `save`."""
        centre, axes = (os.path.join(directory, name) for name in FILES)
        loaded = np.load(axes, allow_pickle=False) if os.path.exists(axes) else None
        return cls(metric, dtype, np.load(centre, allow_pickle=False), scale, loaded)

    def save(self, directory: str) -> None:
        """centre.npy, and axes.npy where there are any."""
        for name, array in zip(FILES, (self.centre, self.axes), strict=True):
            if array is not None:
                np.save(os.path.join(directory, name), array, allow_pickle=False)

    @property
    def graph_dim(self) -> int:
        return len(self.centre) if self.axes is None else self.axes.shape[1]

    @property
    def graph_metric(self) -> str:
        """USearch's name of the metric between encoded vectors."""
        return "ip" if self.metric == "ip" else "l2sq"

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) float32 -> (n, graph_dim) float32, or int8 for an index of int8; USearch rounds to its other types itself."""
        told = self._told_apart(vectors) - self.centre
        told = (told if self.axes is None else told @ self.axes) * np.float32(self.scale)
        if self.dtype == "i8":
            return np.clip(np.rint(told), -127, 127).astype(np.int8)
        return np.ascontiguousarray(told, np.float32)

    def usable(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) bool: a vector of zeros has no direction, and so no place in a graph of directions."""
        return self.metric != "cos" or vectors.any(axis=1)

    def described(self) -> dict[str, Any]:
        """For run.json; the centre is a file beside it."""
        return {"metric": self.graph_metric, "dtype": self.dtype, "scale": self.scale}

    def _told_apart(self, vectors: np.ndarray) -> np.ndarray:
        """What distinguishes vectors under the metric: of the cosine, their direction."""
        if self.metric != "cos":
            return vectors
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
        return np.divide(vectors, norms, out=np.zeros(vectors.shape), where=norms > 0).astype(np.float32)


def _principal_axes(centred: np.ndarray, count: int) -> np.ndarray:
    """(n, dim) -> (dim, count) float32: the directions of most variance (of most length, where there is no centre), first the largest."""
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    return np.ascontiguousarray(rows[:count].T, np.float32)
