"""From stored vectors to what a graph holds of them.

    cos   u(x) - m    in squared Euclidean distance:  |(u(q) - m) - (u(g) - m)|^2 = |u(q) - u(g)|^2 = 2 (1 - cosine), with u(x) = x / |x|
    l2    x - m       likewise
    ip    x           by inner product, which knows no common centre

Both orders are those of the metric, whatever the centre m is. Embeddings of one model lie in a narrow cone: without their common direction, the mean of a
sample, the few bits of bfloat16 and of int8 are spent on what distinguishes them. Everything is multiplied by one number so that int8 is used to its
ends (the 0.9999 quantile of a sample; what is beyond is clipped) and float16 does not overflow. Distances in a graph are therefore only good for
choosing candidates; theirs are computed from the stored vectors afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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

    @classmethod
    def fitted(cls, sample: np.ndarray, *, metric: str, dtype: str) -> Codec:
        """To a sample (n, dim) float32 of the gallery."""
        start = cls(metric, dtype, np.zeros(sample.shape[1], np.float32), 1.0)
        told = start._told_apart(sample)
        centre = start.centre if metric == "ip" else told.mean(axis=0, dtype=np.float64).astype(np.float32)
        largest = float(np.quantile(np.abs(told - centre), _QUANTILE)) if told.size else 0.0
        return cls(metric, dtype, centre, _LARGEST[dtype] / largest if largest > 0 else 1.0)

    @property
    def graph_metric(self) -> str:
        """USearch's name of the metric between encoded vectors."""
        return "ip" if self.metric == "ip" else "l2sq"

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """(n, dim) float32 -> (n, dim) float32, or int8 for an index of int8; USearch rounds to its other types itself."""
        told = (self._told_apart(vectors) - self.centre) * np.float32(self.scale)
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
