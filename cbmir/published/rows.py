"""Which row of the manifest a published key means."""

from __future__ import annotations

import numpy as np

from cbmir.schemas import image_key
from cbmir.store import Study


class Rows:
    """The manifest's rows by the hash of one column's values."""

    def __init__(self, study: Study, column: str) -> None:
        table = study.dataset("manifest").to_table(columns=list(dict.fromkeys(["image_key", "uri", column])))
        self.column = column
        self.table = table
        self.keys = table["image_key"].to_numpy()
        values = self.keys if column == "image_key" else hashes(table[column].to_pylist())
        self.order = np.argsort(values, kind="stable")
        self.values = values[self.order]
        self.taken = np.zeros(len(values), bool)

    def find(self, keys: list[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """keys -> (positions in `keys`, rows of the manifest): a key may have no row, one, or several of the same value."""
        wanted = keys if isinstance(keys, np.ndarray) else hashes(keys)
        first, last = (np.searchsorted(self.values, wanted, side) for side in ("left", "right"))
        counts = last - first
        positions = np.repeat(np.arange(len(wanted)), counts)
        offsets = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        return positions, self.order[np.repeat(first, counts) + offsets]


def hashes(values: list[str | None]) -> np.ndarray:
    """Paths -> int64; what differs only in leading '/' and './' is equal, because HDF5 does not keep it. Null is 0, which no text has."""
    return np.fromiter((image_key(plain(value)) if value else 0 for value in values), np.int64, len(values))


def plain(path: str) -> str:
    """'./a/b.png', '/a/b.png' -> 'a/b.png'."""
    while path.startswith(("/", "./")):
        path = path[1:] if path.startswith("/") else path[2:]
    return path
