"""From the vectors of a volume's slices to one vector of the volume: each reduction with a name, and a sentence that defines it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from cbmir.errors import UserError

MOST = 1_000  # slices that a name may speak of
USUAL = ("mean", "max", "meanmax", "inner", "concat")


@dataclass(frozen=True)
class Reduction:
    """One way to make a volume's vector; `number`: what stands behind its name."""

    kind: str
    number: int | None = None

    @property
    def name(self) -> str:
        return self.kind + ("" if self.number is None else str(self.number))

    @property
    def sentence(self) -> str:
        """The definition, for people."""
        return _SENTENCES[self.kind].format(n=self.number)

    def dim(self, dim: int) -> int:
        """Numbers of a volume's vector, of slices of `dim`."""
        return {"meanmax": 2 * dim, "concat": (self.number or 0) * dim}.get(self.kind, dim)

    def refusal(self, places: np.ndarray, total: int) -> str | None:
        """Why a volume with `total` slices, those at `places` (s,) with a vector, has no such vector; None where it has one."""
        if len(places) == 0:
            return f"none of the {total:,} slices has a vector"
        if self.kind == "concat" and len(places) < total:
            return f"{total - len(places):,} of {total:,} slices have no vector: a concatenation needs them all"
        if self.kind == "inner" and not _inside(places, total, self.number).any():
            return f"only slices that are dropped, {self.number:,} at each end, have a vector"
        return None

    def apply(self, vectors: np.ndarray, places: np.ndarray, total: int) -> np.ndarray:
        """Vectors (s, dim) of a volume's slices in their order, their places (s,) among all `total` slices -> (d,) float64."""
        return _APPLY[self.kind](vectors.astype(np.float64), places, total, self.number)


def _mean(vectors: np.ndarray, places: np.ndarray, total: int, number: int | None) -> np.ndarray:
    return vectors.mean(axis=0)


def _max(vectors: np.ndarray, places: np.ndarray, total: int, number: int | None) -> np.ndarray:
    return vectors.max(axis=0)


def _meanmax(vectors: np.ndarray, places: np.ndarray, total: int, number: int | None) -> np.ndarray:
    return np.concatenate([vectors.mean(axis=0), vectors.max(axis=0)])


def _inner(vectors: np.ndarray, places: np.ndarray, total: int, number: int | None) -> np.ndarray:
    return vectors[_inside(places, total, number)].mean(axis=0)


def _inside(places: np.ndarray, total: int, number: int) -> np.ndarray:
    """Which of the places (s,) are not dropped: a short volume keeps its middle."""
    dropped = min(number, (total - 1) // 2)
    return (places >= dropped) & (places < total - dropped)


def _concat(vectors: np.ndarray, places: np.ndarray, total: int, number: int | None) -> np.ndarray:
    return resampled(vectors, number).ravel()


def resampled(vectors: np.ndarray, size: int) -> np.ndarray:
    """(s, dim) float64 -> (size, dim): cubic splines through the numbers of each column, the first and the last row staying where they are.

    As scipy.ndimage.zoom has it, with which the second paper resamples voxels. s == size: unchanged; one row: repeated.
    """
    return vectors if len(vectors) == size else _weights(len(vectors), size) @ vectors


@cache
def _weights(rows: int, size: int) -> np.ndarray:
    """(size, rows): what each row has of each resampled one; a spline is linear in what it goes through."""
    from scipy.ndimage import zoom

    if rows == 1:
        return np.ones((size, 1))
    return zoom(np.eye(rows), (size / rows, 1), order=min(3, rows - 1), mode="mirror")


_APPLY: dict[str, Callable[[np.ndarray, np.ndarray, int, int | None], np.ndarray]] = {
    "mean": _mean,
    "max": _max,
    "meanmax": _meanmax,
    "inner": _inner,
    "concat": _concat,
}
_SENTENCES = {
    "mean": "the mean of the slices' vectors, number by number",
    "max": "the largest of the slices' values, number by number",
    "meanmax": "the mean of the slices' vectors followed by their maximum, twice as many numbers",
    "inner": "the mean of the slices' vectors without the first {n} and the last {n} slices of the volume (of a short one as many fewer as leave one)",
    "concat": "the slices' vectors one after the other in the order of the slices, resampled along the axis to {n} slices by cubic splines where there are "
    "more or fewer",
}


def parse_reductions(names: tuple[str, ...], usual_slices: int) -> list[Reduction]:
    """('mean', 'inner4', 'concat') -> reductions, each once; UserError for an unknown name.

    usual_slices: how many slices most volumes have, which `concat` without a number is resampled to. `inner` alone drops one slice at each end.
    """
    found = {}
    for name in names:
        match = re.fullmatch(r"(mean|max|meanmax|inner|concat)(\d*)", name)
        number = int(match.group(2)) if match and match.group(2) else None
        takes = match and match.group(1) in ("inner", "concat")
        if not match or (number is not None and not (takes and 1 <= number <= MOST)):
            raise UserError(
                f"--reduce {name}; expected some of: mean, max, meanmax, inner or inner4 (slices dropped at each end), concat or concat64 (slices "
                f"that every volume is resampled to, 2 to {MOST:,})"
            )
        kind = match.group(1)
        number = number if number is not None else {"inner": 1, "concat": usual_slices}.get(kind)
        if kind == "concat" and not 2 <= number <= MOST:
            raise UserError(
                f"--reduce {name}: volumes of {number:,} slices are not concatenated; expected concatN with N from 2 to {MOST:,}, such as concat64"
            )
        found[kind, number] = Reduction(kind, number)
    return list(found.values())
