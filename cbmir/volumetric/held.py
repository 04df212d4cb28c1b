"""Late interaction for few queries at a time, over a gallery whose slices stay in memory and are prepared once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cbmir.volumetric.late import Sides
from cbmir.volumetric.reranking import LateInteraction, ranges
from cbmir.volumetric.slices import Volumes


class HeldInteraction(LateInteraction):
    """As LateInteraction; the gallery takes its vectors' bytes in memory twice, as stored and as the sides of products."""

    _held: list[tuple[Volumes, Sides]] | None = None

    def load(self) -> None:
        """Read the gallery, where that is not done."""
        if self._held is None:
            self._held = list(super()._prepared())

    def _prepared(self) -> Iterator[tuple[Volumes, Sides]]:
        self.load()
        yield from self._held

    def _loaded(self, volumes: np.ndarray) -> Iterator[Volumes]:
        if self._held is None:
            yield from super()._loaded(volumes)
        else:
            yield from (_some(theirs, volumes) for theirs, _ in self._held)


def _some(held: Volumes, wanted: np.ndarray) -> Volumes:
    """Those of the `wanted` volumes that are there."""
    at = np.flatnonzero(np.isin(held.keys, wanted))
    rows = ranges(held.starts[at], held.counts[at])
    return Volumes(held.keys[at], held.counts[at], held.vectors[rows], held.slice_keys[rows], held.places[rows])
