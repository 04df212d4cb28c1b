"""What every layout is read into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

MOST_NUMBERS = 1 << 20  # of one vector
BATCH = 8_192  # vectors at a time


@dataclass
class Batch:
    """keys: texts, or image keys as int64; vectors: (n, dim) float32, all finite; bad: (key, what is wrong with its vector)."""

    keys: list[str] | np.ndarray
    vectors: np.ndarray
    bad: list[tuple[str | int, str]] = field(default_factory=list)


def batched(pairs: Iterable[tuple[str, np.ndarray | str]], dim: int | None) -> Iterator[Batch]:
    """(key, vector or what is wrong with it) -> batches; the first good vector says how long all others must be."""
    keys, rows, bad = [], [], []
    for key, vector in pairs:
        reason = vector if isinstance(vector, str) else unfit(vector, dim)
        if reason:
            bad.append((key, reason))
        else:
            dim = len(vector)
            keys.append(key)
            rows.append(vector)
        if len(keys) + len(bad) >= BATCH:
            yield Batch(keys, _stacked(rows, dim), bad)
            keys, rows, bad = [], [], []
    if keys or bad:
        yield Batch(keys, _stacked(rows, dim), bad)


def unfit(vector: np.ndarray, dim: int | None) -> str:
    """What is wrong with a vector, '' if nothing is."""
    if vector.dtype.kind not in "fiu":
        return f"not numbers but {vector.dtype}"
    if vector.ndim != 1 or not 1 <= len(vector) <= MOST_NUMBERS:
        return f"shape {vector.shape}; expected one vector"
    if dim is not None and len(vector) != dim:
        return f"{len(vector)} numbers; expected {dim} as the first vector has"
    if not np.isfinite(vector).all():
        return "not finite"
    return ""


def _stacked(rows: list[np.ndarray], dim: int | None) -> np.ndarray:
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, dim or 1), np.float32)


def checked(keys: np.ndarray | list, matrix: np.ndarray, dim: int | None) -> Batch:
    """A block (n, dim) of vectors -> those that are fit, and what is wrong with the others."""
    if dim is not None and matrix.shape[1] != dim:
        reason = f"{matrix.shape[1]} numbers; expected {dim} as the first vector has"
        return Batch(keys[:0], np.zeros((0, dim), np.float32), [(key, reason) for key in keys])
    matrix = matrix.astype(np.float32)
    good = np.isfinite(matrix).all(axis=1)
    if good.all():
        return Batch(keys, matrix)
    bad = [(keys[row], "not finite") for row in np.flatnonzero(~good)]
    kept = keys[good] if isinstance(keys, np.ndarray) else [key for key, fine in zip(keys, good, strict=True) if fine]
    return Batch(kept, matrix[good], bad)
