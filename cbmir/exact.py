"""Exact cosine neighbors by tiled matrix product.

Two passes over each tile. First scoring.py names every pair that a rounding-error bound cannot exclude from the first k. Then each of these
candidates' distance is computed in float64 from the stored vectors and rounded once to float32. The result therefore does not depend on how the gallery
was cut, on the number of threads, or on where in a tile a vector stood, and equal vectors have equal distances.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from cbmir.scoring import FirstPass, half_is_fast

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

    def __init__(self, queries: Block, *, k: int, device: str = "cpu", half: bool | None = None) -> None:
        """half: whether the first pass is in bfloat16; None: where that is fast. The result is the same."""
        self.queries = queries
        self.k = k
        self.device = torch.device(device)
        self._unit = queries.unit(self.device)  # (n, dim)
        half = half_is_fast(self.device) if half is None else half
        self._first = FirstPass(self._unit, k=k, half=half)
        self.distances = np.full((len(queries.keys), k), np.inf, np.float32)
        self.keys = np.full((len(queries.keys), k), NO_KEY, np.int64)
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, keys, distances not merged yet
        self._waiting = 0
        self.bound = (queries.vectors.shape[1] + 16) * 2.0**-24 * 1.01  # of a float32 product of unit vectors

    def add(self, gallery: Block) -> None:
        """Take the gallery tile into account."""
        if len(gallery.keys) == 0:
            return
        unit = gallery.unit(self.device)
        # the running k-th was rounded once; -inf while fewer than k are known
        least = torch.from_numpy(1.0 - self.distances[:, -1].astype(np.float64) - 2.0**-23).to(self.device)
        rows, columns = self._first.candidates(unit, least, self._excluder(gallery))
        rows, columns = self._close(unit, rows, columns, least)
        distances = cosine_distances(self.queries, gallery, rows, columns)
        self._new.append((rows, gallery.keys[columns], distances))
        self._waiting += len(rows)
        if (
            self._waiting > self.distances.size // 4
        ):  # to sort for each tile would cost more than what an older k-th lets through
            self._merge()

    def _close(
        self, unit: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, least: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those candidates that a float32 product cannot exclude either."""
        kept = []
        for start in range(0, len(rows), _PAIRS):
            r, c = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
            kept.append(torch.einsum("ij,ij->i", self._unit[r], unit[c]).double() >= least[r] - self.bound)
        keep = torch.cat(kept) if kept else torch.zeros(0, dtype=torch.bool)
        return rows[keep].cpu().numpy(), columns[keep].cpu().numpy()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """keys (n, k) int64, distances (n, k) float32 ascending, counts (n,): how many of the k places are filled."""
        self._merge()
        return self.keys, self.distances, (self.keys != NO_KEY).sum(axis=1)

    def _excluder(self, gallery: Block):
        """A function that writes -inf where a pair must not be neighbors: the query itself, and rows with an equal code."""
        order = np.argsort(gallery.keys)
        place = np.minimum(np.searchsorted(gallery.keys, self.queries.keys, sorter=order), len(order) - 1)
        itself = order[place]
        found = np.flatnonzero(gallery.keys[itself] == self.queries.keys)
        codes = [
            (
                torch.from_numpy(self.queries.codes[:, c]).to(self.device),
                torch.from_numpy(gallery.codes[:, c]).to(self.device),
            )
            for c in range(self.queries.codes.shape[1])
        ]

        def exclude(rows: slice, scores: torch.Tensor) -> None:
            mine = found[np.searchsorted(found, rows.start) : np.searchsorted(found, rows.stop)]
            if len(mine):
                scores[
                    torch.from_numpy(mine - rows.start).to(self.device), torch.from_numpy(itself[mine]).to(self.device)
                ] = -torch.inf
            for ours, theirs in codes:
                own = ours[rows, None]
                scores.masked_fill_((own == theirs[None, :]) & (own >= 0), -torch.inf)

        return exclude

    def _merge(self) -> None:
        """The first k of what is known and what is new, by (distance, key)."""
        n = len(self.queries.keys)
        rows = np.concatenate([np.repeat(np.arange(n), self.k), *(new[0] for new in self._new)])
        keys = np.concatenate([self.keys.ravel(), *(new[1] for new in self._new)])
        distances = np.concatenate([self.distances.ravel(), *(new[2] for new in self._new)])
        order, sorted_rows = _in_order(rows, distances, keys)
        starts = np.searchsorted(sorted_rows, np.arange(n))
        first = order[starts[:, None] + np.arange(self.k)[None, :]]  # each row holds at least k entries
        self.keys, self.distances = keys[first], distances[first]
        self._new, self._waiting = [], 0


def _in_order(rows: np.ndarray, distances: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order by (row, distance, key) of entries with distances >= 0, and the rows in that order."""
    both = rows.astype(np.uint64) << np.uint64(32) | (distances + np.float32(0)).view(
        np.uint32
    )  # bits of a float ascend as it does
    order = np.argsort(both)
    both = both[order]
    same = both[1:] == both[:-1]
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        among = order[tied]
        order[tied] = among[np.lexsort((keys[among], both[tied]))]
    return order, (both >> np.uint64(32)).astype(np.int64)


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
