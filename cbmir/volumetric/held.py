"""Late interaction for few queries at a time: what a product takes of the gallery is made once and kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cbmir.volumetric.late import Sides, first_types
from cbmir.volumetric.reranking import LateInteraction
from cbmir.volumetric.slices import Volumes


class HeldInteraction(LateInteraction):
    """As LateInteraction; a gallery that is held takes its vectors' bytes in memory twice, as stored and as the sides of products.

    For one query, preparing them would be most of the work.
    """

    _kept: dict[torch.dtype, list[tuple[Volumes, Sides]]] | None = None

    def load(self) -> None:
        """Read and prepare a gallery that is held, where that is not done."""
        if self.is_held:
            for _ in self._prepared(first_types(self.metric, self.device)[0]):
                pass

    def _prepared(self, kind: torch.dtype) -> Iterator[tuple[Volumes, Sides]]:
        if not self.is_held:
            yield from super()._prepared(kind)
            return
        self._kept = self._kept or {}
        if kind not in self._kept:
            self._kept[kind] = list(super()._prepared(kind))
        yield from self._kept[kind]
