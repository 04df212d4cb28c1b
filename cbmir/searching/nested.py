"""Exact search of nested samples of a gallery: all sizes of a sample with one comparison of each vector.

A sample is an order of gallery keys, and its sizes are prefixes of it. Each key belongs to one band, that of the smallest size that holds it. Bands are
searched one after the other, and the nearest so far at the end of each are that size's: the result of ExactSearch over the prefix, to the bit, since
distances are computed pair by pair and ordered by (distance, key).

The files are in no sample's order. They are read as they lie and rows are held by band: once where the sample's vectors fit in HELD bytes, else once
for each run of bands that does; a band that does not fit alone is searched as it is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cbmir.errors import UserError
from cbmir.searching.distance import Block
from cbmir.searching.exact import RunningTopK
from cbmir.searching.searchers import Codes, Found, Source, codes_of, torch_device

HELD = 2 * 2**30  # bytes of vectors
TILE = 16_384  # rows that are searched at once
_PLACES = 40_000_000  # of results (12 bytes each) over all sizes, for a block of queries


@dataclass(frozen=True)
class Sample:
    """Gallery keys in the order in which they join, and the ascending sizes that are asked for."""

    order: np.ndarray  # (m,) int64, each key once
    sizes: tuple[int, ...]  # 1 .. m

    def __post_init__(self) -> None:
        sizes = list(self.sizes)
        if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] > len(self.order):
            raise UserError(
                f"sizes {sizes} of a sample; expected ascending ones from 1 to {len(self.order):,}; ask for such sizes"
            )

    def runs(self, most: int) -> Iterator[tuple[int, ...]]:
        """Edges (from, ..., to) of bands that follow one another and have at most `most` keys together, or of one band."""
        edges = [0]
        for size in self.sizes:
            if len(edges) > 1 and size - edges[0] > most:
                yield tuple(edges)
                edges = edges[-1:]
            edges.append(size)
        yield tuple(edges)


class NestedSearch:
    """Every vector of a sample against every query, once.

    Memory: HELD bytes of vectors, a band's and a tile's copies, and n x k results of 12 bytes for each size of each sample.
    """

    def __init__(
        self,
        vectors: Source,
        samples: Iterable[Sample],
        codes: Codes,
        *,
        k: int,
        metric: str = "cos",
        device: str = "auto",
    ) -> None:
        """codes: what excludes what, as ExactSearch takes it."""
        self.vectors, self.samples, self.codes, self.k, self.metric = vectors, list(samples), codes, k, metric
        self.device = torch_device(device)
        self.seconds = [
            np.zeros(len(sample.sizes)) for sample in self.samples
        ]  # of each size so far, as if it alone had been searched
        total = sum(len(sample.sizes) for sample in self.samples)
        self.rows = max(
            256, min(16_384, _PLACES // (k * total))
        )  # queries of a block: the files are read anew for each

    def block(self, keys: np.ndarray, queries: np.ndarray) -> list[list[Found]]:
        """keys (n,), queries (n, dim) -> of each sample, of each of its sizes, what ExactSearch.block finds in that prefix."""
        asked = Block(keys, queries, codes_of(self.codes, keys))
        return [
            list(self._sizes(asked, sample, spent)) for sample, spent in zip(self.samples, self.seconds, strict=True)
        ]

    def _sizes(self, asked: Block, sample: Sample, spent: np.ndarray) -> Iterator[Found]:
        running = RunningTopK(asked, k=self.k, metric=self.metric, device=self.device)
        before, size = 0.0, 0  # seconds that the bands of this block have taken
        for edges in sample.runs(max(1, HELD // (4 * asked.vectors.shape[1]))):
            began = time.perf_counter()
            bands = self._read(running, sample.order, edges)
            reading = time.perf_counter() - began
            for band, rows in zip(bands, np.diff(edges), strict=True):
                began = time.perf_counter()
                band.search()
                found = running.result()
                before += time.perf_counter() - began + reading * rows / (edges[-1] - edges[0])
                spent[size] += before
                size += 1
                yield found

    def _read(self, running: RunningTopK, order: np.ndarray, edges: tuple[int, ...]) -> list[_Band]:
        """The bands between the edges, held; of one alone, what makes a tile is searched at once."""
        keys = order[edges[0] : edges[-1]]
        rank = np.argsort(keys)
        wanted, numbers = keys[rank], np.repeat(np.arange(len(edges) - 1), np.diff(edges))[rank]
        bands = [_Band(running) for _ in edges[1:]]
        for tile_keys, tile in self.vectors.tiles(wanted):
            block = Block(tile_keys, tile, codes_of(self.codes, tile_keys))
            mine = numbers[np.searchsorted(wanted, tile_keys)]
            for number in np.unique(mine):
                bands[number].hold(block, np.flatnonzero(mine == number))
            if len(bands) == 1 and bands[0].count >= TILE:
                bands[0].search()
        return bands


class _Band:
    """Rows of one band, held until they are searched."""

    def __init__(self, running: RunningTopK) -> None:
        self.running = running
        self.count = 0
        self._held: list[Block] = []

    def hold(self, tile: Block, rows: np.ndarray) -> None:
        """Take these rows of the tile."""
        self._held.append(Block(tile.keys[rows], tile.vectors[rows], tile.codes[rows]))
        self.count += len(rows)

    def search(self) -> None:
        """Take what is held into account, and let go of it."""
        held, self._held, count, self.count = self._held, [], self.count, 0
        if not held:
            return
        parts = [np.concatenate([getattr(block, name) for block in held]) for name in ("keys", "vectors", "codes")]
        for start in range(0, count, TILE):
            self.running.add(Block(*(part[start : start + TILE] for part in parts)))
