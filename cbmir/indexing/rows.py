"""The stored vectors of a shard in files that are read by place: keys (n,) int64 and vectors (n, dim), both .npy, in one order.

A graph holds its own rounding of them; candidates are scored from these. NumPy reads them without cbmir.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.lib import format as npy

from cbmir.errors import UserError


class RowFiles:
    """Writes both files row by row; n is known at the end."""

    def __init__(self, stem: str, dim: int, dtype: str) -> None:
        self.names = (f"{stem}.keys.npy", f"{stem}.vectors.npy")
        self.dim, self.dtype = dim, np.dtype(dtype)
        self.keys: list[np.ndarray] = []
        self._file = open(self.names[1], "wb")  # noqa: SIM115  closed by __exit__
        self._header(0)

    def __enter__(self) -> Self:
        return self

    def append(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """keys (m,) int64, vectors (m, dim)."""
        self.keys.append(np.array(keys, np.int64))
        self._file.write(np.ascontiguousarray(vectors, self.dtype).data)

    def __exit__(self, *_: object) -> None:
        keys = np.concatenate([np.zeros(0, np.int64), *self.keys])
        self._file.seek(0)
        self._header(len(keys))
        self._file.close()
        np.save(self.names[0], keys, allow_pickle=False)

    def _header(self, rows: int) -> None:
        """Of a length that does not depend on the number of rows: NumPy pads the first axis so that it can grow."""
        described = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, self.dim)}
        npy.write_array_header_1_0(self._file, described)


class Rows:
    """Stored vectors by key, read where they are asked for."""

    def __init__(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """keys (n,) int64 in any order, vectors (n, dim) float32 or float16, often mapped from a file."""
        self._order = np.argsort(keys, kind="stable")
        self.keys = keys[self._order]  # ascending
        self._vectors = vectors

    @classmethod
    def opened(cls, stem: str, *, rows: int, named: str) -> Rows:
        """The two files of a shard; UserError where they are not whole."""
        try:
            keys = np.load(f"{stem}.keys.npy", allow_pickle=False)
            vectors = np.load(f"{stem}.vectors.npy", mmap_mode="r" if rows else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            first = " ".join(str(error).split())[:160]
            raise UserError(f"the vectors of {named} cannot be read ({first}); rebuild it with --overwrite") from error
        if not len(keys) == len(vectors) == rows:
            raise UserError(
                f"the vectors of {named} are {len(vectors):,} with {len(keys):,} keys; its run.json says {rows:,}; rebuild it with --overwrite"
            )
        return cls(keys, vectors)

    def __len__(self) -> int:
        return len(self.keys)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """Rows of the vectors file; -1: not here."""
        if len(self.keys) == 0:
            return np.full(len(keys), -1)
        near = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[near] == keys, self._order[near], -1)

    def at(self, places: np.ndarray) -> np.ndarray:
        """(m, dim) float32 of rows of the vectors file."""
        return np.asarray(self._vectors[places], np.float32)

    def in_file_order(self, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(keys, vectors as stored), at most `rows` at a time."""
        keys = np.empty_like(self.keys)
        keys[self._order] = self.keys
        for start in range(0, len(keys), rows):
            yield keys[start : start + rows], np.asarray(self._vectors[start : start + rows])


class Together:
    """The rows of several shards as one; keys are in one of them only."""

    def __init__(self, shards: Iterable[Rows]) -> None:
        self.shards = list(shards)

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def vectors(self, keys: np.ndarray) -> np.ndarray:
        """keys (m,) int64 -> (m, dim) float32; zeros for a key that is not here."""
        if len(self.shards) == 1:
            shard, places = self.shards[0], self.shards[0].places(keys)
            found = shard.at(np.maximum(places, 0))
            found[places < 0] = 0
            return found
        out: np.ndarray | None = None
        for shard in self.shards:
            places = shard.places(keys)
            here = places >= 0
            if here.any() or out is None:
                found = shard.at(places[here])
                out = np.zeros((len(keys), found.shape[1]), np.float32) if out is None else out
                out[here] = found
        return out

    def tiles(self, wanted: np.ndarray, *, rows: int = 16_384) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As Vectors.tiles, of the ascending `wanted` keys that are here; what is not wanted is not read."""
        for shard in self.shards:
            places = shard.places(wanted)
            here = np.flatnonzero(places >= 0)
            here = here[np.argsort(places[here])]  # as they lie in the file
            for start in range(0, len(here), rows):
                some = here[start : start + rows]
                yield wanted[some], shard.at(places[some])
