"""Late interaction over a study's volumes: every gallery volume, or the candidates of another search; and the slices that match."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from cbmir.searching.exact import NO_KEY
from cbmir.searching.searchers import Codes, Found, codes_of
from cbmir.volumetric.aggregation import first_k
from cbmir.volumetric.late import (
    Sides,
    about,
    best_pairs,
    exactly,
    first_types,
    on_grid,
    pairwise,
    repeated,
    rounding,
    sides,
)
from cbmir.volumetric.slices import Slices, Volumes

HELD = 2**30  # bytes of a gallery's vectors that are kept in memory
_FEW = 2  # times k: as many pairs as are left to float64 at once; where more are, they are looked at in float32 before
_GATHERED = 16 * 2**20  # bytes of query slices that are gathered at once
Match = tuple[int, int, int, int, float]  # query volume, gallery volume, slice of each, their distance


class LateInteraction:
    """Which volumes are nearest, by all of their slices.

    gallery: ascending keys of volumes that have a slice with a vector. codes: of volumes, as exclusion_codes has them.
    """

    def __init__(self, slices: Slices, gallery: np.ndarray, codes: Codes, *, k: int, metric: str, device: str) -> None:
        self.slices, self.gallery, self.codes = slices, gallery, codes
        self.k, self.metric, self.device = k, metric, device
        self._held: list[Volumes] | None = None

    def all_of(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, Found]]:
        """Blocks of the ascending `queries` with their k nearest volumes of the whole gallery."""
        for block in self._blocks(queries):
            yield block, self.nearest_to(self.slices.load(block), k=self.k)

    def among(self, queries: np.ndarray, candidates: np.ndarray) -> Iterator[tuple[np.ndarray, Found]]:
        """The same of each query's candidates alone, (n, c) keys with NO_KEY in empty places."""
        for block in self._blocks(queries):
            near = candidates[np.searchsorted(queries, block)]
            row, place = np.nonzero(near != NO_KEY)
            yield block, self._exact(self.slices.load(block), (row, near[row, place]), self.k)

    def nearest_to(self, asked: Volumes, *, k: int) -> Found:
        """The k nearest volumes of the whole gallery to volumes whose slices need not be the study's; `asked.keys` ascend."""
        return self._exact(asked, self._survivors(asked, k), k)

    def _blocks(self, queries: np.ndarray) -> Iterator[np.ndarray]:
        yield from (np.sort(block) for block in self.slices.batches(queries))

    def _survivors(self, asked: Volumes, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row of the query, key of the volume) that rounding cannot exclude from the first k."""
        excluded = self._excluded(asked.keys)
        for kind in first_types(self.metric, self.device):
            distances, off = self._about(asked, kind)
            distances[excluded] = np.inf
            deep = min(k, distances.shape[1])
            least = np.partition(distances, deep - 1, axis=1)[:, deep - 1]
            left = np.isfinite(distances) & (distances <= least[:, None] + 2 * off)
            if left.sum() <= _FEW * deep * len(left):
                break
        row, place = np.nonzero(left)
        return row, self.gallery[place]

    def _about(self, asked: Volumes, kind: torch.dtype) -> tuple[np.ndarray, float]:
        """(queries, gallery) distances by products in `kind`, and how far off they may be."""
        mine = self._sides(asked.vectors, kind)
        distances = np.full((len(asked.keys), len(self.gallery)), np.inf)
        off = 0.0
        for theirs, gallery in self._prepared(kind):
            places = np.searchsorted(self.gallery, theirs.keys)
            distances[:, places] = about(mine, asked.counts, gallery, theirs.counts, self.metric)
            off = max(off, rounding(mine, gallery, self.metric))
        return distances, off

    def _excluded(self, keys: np.ndarray) -> np.ndarray:
        """(n, gallery): the query itself, and what shares a code with it."""
        excluded = keys[:, None] == self.gallery[None, :]
        mine, theirs = codes_of(self.codes, keys), codes_of(self.codes, self.gallery)
        for c in range(mine.shape[1]):
            excluded |= (mine[:, c, None] == theirs[None, :, c]) & (mine[:, c, None] >= 0)
        return excluded

    def _exact(self, asked: Volumes, pairs: tuple[np.ndarray, np.ndarray], k: int) -> Found:
        """Distances of the pairs in float64, and the first k of each query."""
        row, key = pairs
        mine, starts = self._sides(asked.vectors, torch.float64), asked.starts
        order = np.argsort(key, kind="stable")
        row, key = row[order], key[order]
        distances = np.empty(len(row))
        for volume, theirs in self._each(np.unique(key)):
            first, last = np.searchsorted(key, [volume, volume + 1])
            sizes = np.cumsum(asked.counts[row[first:last]]) * mine.rows.shape[1] * 8
            for here in np.split(np.arange(first, last), np.flatnonzero(np.diff(sizes // _GATHERED)) + 1):
                counts = asked.counts[row[here]]
                rows = _ranges(starts[row[here]], counts)
                distances[here] = exactly(mine.of(rows), counts, theirs, self.metric)
        distances = distances.astype(np.float32)
        order = np.lexsort((key, distances, row))
        return first_k(asked.keys, asked.keys[row[order]], key[order], distances[order], k=k)

    def matches(self, queries: np.ndarray, neighbors: np.ndarray, *, most: int) -> Iterator[list[Match]]:
        """Of pairs of volumes (n,), (n,): up to `most` pairs of their slices each, the nearest first; a block of queries at a time.

        Slices that their own volume repeats (blank ones) are nearest to those of any volume and show nothing: pairs with such come after the others.
        """
        for block in self._blocks(np.unique(queries)):
            here = np.isin(queries, block)
            yield self.matches_of(self.slices.load(block), queries[here], neighbors[here], most=most)

    def matches_of(self, asked: Volumes, queries: np.ndarray, neighbors: np.ndarray, *, most: int) -> list[Match]:
        """The same of pairs whose queries are all among `asked`, whose keys ascend; by neighbor, then query."""
        mine = self._sides(asked.vectors, torch.float64)
        own = {key: _ranges(asked.starts[[at]], asked.counts[[at]]) for at, key in enumerate(asked.keys)}
        blank = {key: repeated(mine.of(rows)) for key, rows in own.items()}
        found = []
        for volume, theirs, slice_keys in self._each_with_keys(np.unique(neighbors)):
            their_blank = repeated(theirs)
            for query in np.unique(queries[neighbors == volume]):
                rows, last = own[query], blank[query][:, None] | their_blank[None, :]
                distances = on_grid(pairwise(mine.of(rows), theirs, self.metric).cpu().numpy())
                found += [
                    (int(query), volume, int(asked.slice_keys[rows[i]]), int(slice_keys[j]), float(distances[i, j]))
                    for i, j in best_pairs(distances, most, last)
                ]
        return found

    def _each(self, volumes: np.ndarray) -> Iterator[tuple[int, Sides]]:
        for volume, theirs, _ in self._each_with_keys(volumes):
            yield volume, theirs

    def _each_with_keys(self, volumes: np.ndarray) -> Iterator[tuple[int, Sides, np.ndarray]]:
        """Each volume's side of a product in float64, and the keys of its slices."""
        for loaded in self._loaded(volumes):
            starts = loaded.starts
            for i, (key, vectors, _) in enumerate(loaded.each()):
                yield key, self._sides(vectors, torch.float64), loaded.slice_keys[starts[i] : starts[i] + len(vectors)]

    @property
    def is_held(self) -> bool:
        """Whether all of the gallery's vectors fit into HELD, so that files are read once."""
        return int(self.slices.counts(self.gallery).sum()) * self.slices.dim * 4 <= HELD

    def _prepared(self, kind: torch.dtype) -> Iterator[tuple[Volumes, Sides]]:
        """The gallery in batches, each with its side of a product in `kind`."""
        for theirs in self._loaded(self.gallery):
            yield theirs, self._sides(theirs.vectors, kind)

    def _loaded(self, volumes: np.ndarray) -> Iterator[Volumes]:
        """Gallery volumes in batches."""
        if not self.is_held:
            yield from (self.slices.load(batch) for batch in self.slices.batches(volumes))
            return
        if self._held is None:
            self._held = [self.slices.load(batch) for batch in self.slices.batches(self.gallery)]
        for batch in self._held:
            some = batch.of(np.isin(batch.keys, volumes))
            if len(some.keys):
                yield some

    def _sides(self, vectors: np.ndarray, dtype: torch.dtype) -> Sides:
        return sides(vectors, self.metric, dtype, self.device)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts (n,), counts (n,) -> the rows starts[0] ... starts[0] + counts[0] - 1, starts[1] ... one after the other."""
    return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
