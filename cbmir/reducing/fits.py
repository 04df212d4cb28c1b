"""Projections fitted to the images of a role, and which image has which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cbmir.errors import UserError
from cbmir.progress import Progress
from cbmir.reducing.pca import Projection, TooFewDirections, fit, passes
from cbmir.vectors import Vectors


@dataclass(frozen=True)
class Fitted:
    """A projection, how many images it was fitted to, and the share of their variance that it keeps, 0..1."""

    projection: Projection
    images: int
    explained_variance: float

    def described(self) -> dict[str, Any]:
        return {"images": self.images, "explained_variance": self.explained_variance}


@dataclass(frozen=True)
class Fits:
    """The projections by role, 'gallery' and perhaps 'queries'; own: keys of the images that have the queries'."""

    by_role: dict[str, Fitted]
    own: np.ndarray

    def apply(self, keys: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """keys (n,), vectors (n, dim) float32 -> (n, k) float32."""
        reduced = self.by_role["gallery"].projection.apply(vectors)
        theirs = np.isin(keys, self.own)
        if theirs.any():
            reduced[theirs] = self.by_role["queries"].projection.apply(vectors[theirs])
        return reduced


def fit_role(vectors: Vectors, selected: np.ndarray, pca: int, *, role: str, predicate: str) -> Fitted:
    """The first `pca` components of those of the `selected` keys that have a vector; UserError where there are not as many."""
    keys = vectors.keys(selected)
    if len(keys) == 0:
        raise UserError(
            f"the {role} is empty: none of the {len(selected):,} images of {predicate} was embedded by {vectors.encoder}; see failures"
        )
    most = min(vectors.dim, len(keys))
    if pca > most:
        raise UserError(
            f"--pca {pca}: {vectors.encoder} has {len(keys):,} vectors of {vectors.dim:,} numbers for the {role} ({predicate}); "
            f"expected --pca {most} or less"
        )
    total = passes(len(keys), vectors.dim) * len(keys)
    with Progress(f"fit to the {role}", total, unit="vectors") as progress:

        def read() -> Iterator[np.ndarray]:
            for _, tile in vectors.tiles(keys):
                yield tile
                progress.advance(len(tile))

        try:
            projection, share = fit(read, rows=len(keys), dim=vectors.dim, components=pca)
        except TooFewDirections as error:
            raise UserError(
                f"--pca {pca}: the {len(keys):,} vectors of the {role} ({predicate}) by {vectors.encoder} vary in {error.found:,} directions; "
                f"expected --pca {error.found} or less"
            ) from None
    return Fitted(projection, len(keys), share)
