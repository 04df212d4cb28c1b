"""Vectors and labels of the images of one role, in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.vectors import TILE_ROWS, Part, Vectors

NO_LABEL = -1


class Chunk(NamedTuple):
    """Some images: keys (m,) int64, vectors (m, dim) float32 of unit length, codes (m, most labels) int64, NO_LABEL in empty places."""

    keys: np.ndarray
    vectors: np.ndarray
    codes: np.ndarray


class Examples:
    """Images that have a vector, with the codes of their labels.

    keys (n,) int64 ascending; codes (n, most labels) int64. Where all vectors fit in `most_bytes` they are read once and kept, ascending by key; else
    they are read again at every pass, `most_bytes` at a time, in the order of the files, or of their row groups drawn at random.
    """

    def __init__(self, vectors: Vectors, keys: np.ndarray, codes: np.ndarray, *, most_bytes: int) -> None:
        self.vectors = vectors
        self.keys = keys
        self.codes = codes
        self.rows = max(1, most_bytes // (4 * vectors.dim))
        self.fits = len(keys) <= self.rows
        self._groups: Part | None = None  # one row group an item

    def chunks(self, rng: np.random.Generator | None = None) -> Iterator[Chunk]:
        """All images once; `rng` draws the order of the row groups where they do not fit together. A chunk is valid until the next one is asked for."""
        if self.fits:
            yield self._whole()
        else:
            yield from self._streamed(None if rng is None else self._drawn(rng))

    def _whole(self) -> Chunk:
        """All images at once, whatever the order of the files."""
        vectors = np.empty((len(self.keys), self.vectors.dim), np.float32)
        for keys, tile in self.vectors.tiles(self.keys):
            vectors[np.searchsorted(self.keys, keys)] = unit_length(tile)
        return Chunk(self.keys, vectors, self.codes)

    def _streamed(self, part: Part | None) -> Iterator[Chunk]:
        """`rows` images at a time, in one buffer."""
        held, vectors, filled = np.empty(self.rows, np.int64), np.empty((self.rows, self.vectors.dim), np.float32), 0
        for keys, tile in self.vectors.tiles(self.keys, rows=min(TILE_ROWS, self.rows), part=part):
            start = 0
            while start < len(keys):
                more = min(len(keys) - start, self.rows - filled)
                held[filled : filled + more] = keys[start : start + more]
                vectors[filled : filled + more] = unit_length(tile[start : start + more])
                start, filled = start + more, filled + more
                if filled == self.rows:
                    yield self._chunk(held, vectors)
                    filled = 0
        if filled:
            yield self._chunk(held[:filled], vectors[:filled])

    def _chunk(self, keys: np.ndarray, vectors: np.ndarray) -> Chunk:
        return Chunk(keys, vectors, self.codes[np.searchsorted(self.keys, keys)])

    def _drawn(self, rng: np.random.Generator) -> Part:
        if self._groups is None:
            self._groups = [(path, [group]) for path, groups in self.vectors.parts(1)[0] for group in groups]
        return [self._groups[i] for i in rng.permutation(len(self._groups))]


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """(m, dim) float32 -> the same directions with length 1; a vector of zeros stays one."""
    largest = np.abs(vectors).max(
        axis=1, keepdims=True
    )  # divided by first: squares of large and small numbers are no float32
    scaled = vectors / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    scaled /= np.where(length > 0, length, 1)
    return scaled


def label_codes(labels: pa.ChunkedArray, names: list[str]) -> np.ndarray:
    """Lists of labels (n,) -> (n, most labels of one image, 1 or more) int64: positions in `names`, NO_LABEL behind the last and for other labels."""
    lists = labels.combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy()
    codes = pc.fill_null(pc.index_in(lists.flatten(), pa.array(names, pa.string())), NO_LABEL).to_numpy()
    counts = np.bincount(rows, minlength=len(lists))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(lists), max(1, counts.max(initial=0))), NO_LABEL, np.int64)
    table[rows, places] = codes
    return table
