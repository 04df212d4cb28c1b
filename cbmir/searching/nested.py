"""Exact search of nested samples of a gallery: all sizes of all samples in one pass over the vectors.

A sample is an order of gallery keys, and its sizes are prefixes of it. Each key belongs to one band, that of the smallest size that holds it, and is
compared with the queries once, in its band; the nearest in a size are then those among the nearest in its bands. Distances are computed pair by pair
and ordered by (distance, key), so that each size's result is that of ExactSearch over the prefix, to the bit.

The files are in no sample's order. So they are read once, as they lie, and rows are routed to their bands; a band's rows are held until they make a tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cbmir.errors import UserError
from cbmir.searching.distance import Block
from cbmir.searching.exact import RunningTopK
from cbmir.searching.searchers import Codes, Found, Source, codes_of, torch_device
from cbmir.searching.spread import merged

TILE = 8_192  # rows of a band that are searched at once
_PLACES = 40_000_000  # of results (12 bytes each) over all bands, for a block of queries


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

    def bands(self, gallery: np.ndarray) -> np.ndarray:
        """(g,) int16 for ascending gallery keys: the first of the sizes that holds each, -1: none."""
        bands = np.full(len(gallery), -1, np.int16)
        edges = (0, *self.sizes)
        bands[np.searchsorted(gallery, self.order[: edges[-1]])] = np.repeat(
            np.arange(len(self.sizes), dtype=np.int16), np.diff(edges)
        )
        return bands


class NestedSearch:
    """Every vector of every sample against every query, each once a sample.

    Memory, beside that of a tile: for each band of each sample TILE vectors and n x k results (12 bytes each, as many again while they are merged);
    for each image of the gallery 8 bytes, and 2 for each sample.
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
        self.gallery = np.unique(np.concatenate([sample.order[: sample.sizes[-1]] for sample in self.samples]))
        self._bands = [sample.bands(self.gallery) for sample in self.samples]
        total = sum(len(sample.sizes) for sample in self.samples)
        self.rows = max(
            256, min(16_384, _PLACES // (k * total))
        )  # queries of a block: the gallery is read once for each

    def block(self, keys: np.ndarray, queries: np.ndarray) -> list[list[Found]]:
        """keys (n,), queries (n, dim) -> of each sample, of each of its sizes, what ExactSearch.block finds in that prefix."""
        asked = Block(keys, queries, codes_of(self.codes, keys))
        bands = [[self._band(asked) for _ in sample.sizes] for sample in self.samples]
        for tile_keys, tile in self.vectors.tiles(self.gallery):
            block = Block(tile_keys, tile, codes_of(self.codes, tile_keys))
            places = np.searchsorted(self.gallery, tile_keys)
            for mine, of_sample in zip(bands, self._bands, strict=True):
                numbers = of_sample[places]
                for number in np.unique(numbers[numbers >= 0]):
                    mine[number].add(block, np.flatnonzero(numbers == number))
        return [self._cumulated(mine) for mine in bands]

    def _band(self, asked: Block) -> _Band:
        return _Band(RunningTopK(asked, k=self.k, metric=self.metric, device=self.device))

    def _cumulated(self, bands: list[_Band]) -> list[Found]:
        found = [bands[0].result()]
        for band in bands[1:]:
            found.append(merged(self.k, found[-1], band.result()))
        return found


class _Band:
    """Rows of one band, held until they make a tile."""

    def __init__(self, running: RunningTopK) -> None:
        self.running = running
        self._held: list[Block] = []
        self._count = 0

    def add(self, tile: Block, rows: np.ndarray) -> None:
        """Take these rows of the tile."""
        if len(rows) < len(tile.keys):
            tile = Block(tile.keys[rows], tile.vectors[rows], tile.codes[rows])
        self._held.append(tile)
        self._count += len(rows)
        if self._count >= TILE:
            self._search()

    def result(self) -> Found:
        self._search()
        return self.running.result()

    def _search(self) -> None:
        held, self._held, self._count = self._held, [], 0
        if len(held) == 1:
            self.running.add(held[0])
        elif held:
            parts = ([getattr(block, name) for block in held] for name in ("keys", "vectors", "codes"))
            self.running.add(Block(*map(np.concatenate, parts)))
