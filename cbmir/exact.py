"""Exact cosine neighbors by tiled matrix product.

Two passes over each tile. First a float32 matrix product of unit vectors; a candidate is every pair whose score a
rounding-error bound cannot exclude from the first k. Then each candidate's distance is computed in float64 from the
stored vectors and rounded once to float32. The result therefore does not depend on how the gallery was cut, on the
number of threads, or on where in a tile a vector stood, and equal vectors have equal distances.

The bound: with unit roundoff u = 2^-24, a float32 dot product of two vectors of norm <= 1 in any order of summation
is off by at most dim * u / (1 - dim * u) (Higham, Accuracy and Stability, 2002, section 3.1), normalising in float32
adds at most 4 u for each vector, and the running k-th distance was rounded once; (dim + 16) * u * 1.01 covers all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

QUERY_ROWS = 1_024
_PAIRS = 8_192  # candidate pairs scored at once
NO_KEY = np.iinfo(np.int64).max  # key of an empty place: sorts last


@dataclass
class Block:
    """Rows of vectors with what a search must know of each; `codes` are equal where two rows exclude each other."""

    keys: np.ndarray  # (n,) int64
    vectors: np.ndarray  # (n, dim) float32, as stored
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))  # (n, c), -1: excludes nothing

    def __post_init__(self) -> None:
        if self.codes.shape[0] != len(self.keys):
            self.codes = np.zeros((len(self.keys), 0), np.int64)
        self.norms = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors, dtype=np.float64))

    def unit(self, device: torch.device) -> torch.Tensor:
        """(n, dim) float32 of norm 1; a zero vector stays zero."""
        norms = np.where(self.norms == 0, 1.0, self.norms)[:, None]
        return torch.from_numpy((self.vectors / norms).astype(np.float32)).to(device)


class RunningTopK:
    """The k nearest so far of a block of queries; `add` takes gallery tiles in any order."""

    def __init__(self, queries: Block, *, k: int, device: str = "cpu") -> None:
        self.queries = queries
        self.k = k
        self.device = torch.device(device)
        self._unit = queries.unit(self.device)  # (n, dim)
        self.distances = np.full((len(queries.keys), k), np.inf, np.float32)
        self.keys = np.full((len(queries.keys), k), NO_KEY, np.int64)
        self.bound = (queries.vectors.shape[1] + 16) * 2.0**-24 * 1.01

    def add(self, gallery: Block) -> None:
        """Take the gallery tile into account."""
        if len(gallery.keys) == 0:
            return
        scores = self._unit @ gallery.unit(self.device).T  # (n, m) cosine similarity
        scores = self._exclude(scores, gallery)
        rows, columns = self._candidates(scores)
        distances = cosine_distances(self.queries, gallery, rows, columns)
        self._merge(rows, gallery.keys[columns], distances)

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """keys (n, k) int64, distances (n, k) float32 ascending, counts (n,): how many of the k places are filled."""
        return self.keys, self.distances, (self.keys != NO_KEY).sum(axis=1)

    def _exclude(self, scores: torch.Tensor, gallery: Block) -> torch.Tensor:
        """-inf where a pair must not be neighbors: the query itself, and rows with an equal code."""
        order = np.argsort(gallery.keys)
        place = np.minimum(np.searchsorted(gallery.keys, self.queries.keys, sorter=order), len(order) - 1)
        itself = order[place]
        rows = np.flatnonzero(gallery.keys[itself] == self.queries.keys)
        scores[torch.from_numpy(rows).to(self.device), torch.from_numpy(itself[rows]).to(self.device)] = -torch.inf
        for c in range(self.queries.codes.shape[1]):
            mine = torch.from_numpy(self.queries.codes[:, c]).to(self.device)[:, None]
            theirs = torch.from_numpy(gallery.codes[:, c]).to(self.device)[None, :]
            scores.masked_fill_((mine == theirs) & (mine >= 0), -torch.inf)
        return scores

    def _candidates(self, scores: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(rows, columns) of the pairs that may be among the first k."""
        running = torch.from_numpy(1.0 - self.distances[:, -1].astype(np.float64) - self.bound).to(self.device)  # (n,)
        threshold = running.float()
        threshold = threshold.nextafter(torch.full_like(threshold, -torch.inf))  # -inf while fewer than k are known
        keep = scores >= threshold[:, None]
        many = min(self.k, scores.shape[1])
        if int(keep.sum()) > 4 * many * len(scores):
            best = scores.topk(many, dim=1).values[
                :, -1
            ]  # k of this tile are at least this good, give or take the bound
            tile = best - 2 * self.bound
            keep = scores >= torch.maximum(threshold, tile)[:, None]
        keep &= scores > -torch.inf
        rows, columns = keep.nonzero(as_tuple=True)
        return rows.cpu().numpy(), columns.cpu().numpy()

    def _merge(self, rows: np.ndarray, keys: np.ndarray, distances: np.ndarray) -> None:
        """The first k of what is known and what is new, by (distance, key)."""
        n = len(self.queries.keys)
        all_rows = np.concatenate([np.repeat(np.arange(n), self.k), rows])
        all_keys = np.concatenate([self.keys.ravel(), keys])
        all_distances = np.concatenate([self.distances.ravel(), distances])
        order = np.lexsort((all_keys, all_distances, all_rows))
        starts = np.searchsorted(all_rows[order], np.arange(n))
        first = order[starts[:, None] + np.arange(self.k)[None, :]]  # each row holds at least k entries
        self.keys, self.distances = all_keys[first], all_distances[first]


def cosine_distances(left: Block, right: Block, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """1 - cos of pairs (left[rows], right[columns]) -> float32 in 0..2, computed in float64; 1 for a zero vector."""
    out = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS):
        r, c = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
        dots = np.einsum("ij,ij->i", left.vectors[r], right.vectors[c], dtype=np.float64)
        scale = left.norms[r] * right.norms[c]
        cosine = np.divide(dots, scale, out=np.zeros_like(dots), where=scale > 0)
        out[start : start + _PAIRS] = np.clip(1.0 - cosine, 0.0, 2.0)
    return out
