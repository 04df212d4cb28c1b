"""What is asked of a study of image sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.table import LARGEST, LEAST_DETAIL
from cbmir.errors import UserError
from cbmir.evaluating.beforehand import extending
from cbmir.evaluating.comparing import COMPARED
from cbmir.evaluating.options import KS, EvaluateOptions
from cbmir.search import DEPTH, SearchOptions

MAP = "average_precision_over_hits_at_k"


@dataclass(frozen=True)
class ImageSizeOptions:
    """What decides the study."""

    sizes: tuple[int, ...] = (28, 64, 128, 224)  # pixels a side, ascending
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    gallery: str = "split = 'train'"
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()
    metric: str = "cos"
    ks: tuple[int, ...] = KS
    resamples: int | None = None  # None: as evaluated before, else 1,000
    permutations: int | None = None  # None: as evaluated before, else 10,000
    seed: int | None = None  # of resamples and permutations; None: as evaluated before, else 0
    allow_overlap: bool = False

    def evaluate(self, before: dict[str, Any], *, within: int) -> EvaluateOptions:
        """What is evaluated, beside what was evaluated before: parameters of those figures, and the depth of the shallowest search."""
        return extending(
            before,
            ks=self.ks,
            metrics=("precision_at_k", MAP),
            within=within,
            compared=(*COMPARED, MAP),
            resamples=self.resamples,
            permutations=self.permutations,
            seed=self.seed,
            allow_overlap=self.allow_overlap,
        )

    @property
    def search(self) -> SearchOptions:
        return SearchOptions(
            k=max(self.ks) if max(self.ks) > DEPTH else None,
            gallery=self.gallery,
            queries=self.queries,
            exclude_same=self.exclude_same,
            metric=self.metric,
            device=self.embed.device,
            overwrite=self.embed.overwrite,
        )

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be."""
        wrong = [size for size in self.sizes if not LEAST_DETAIL <= size <= LARGEST]
        if wrong:
            raise UserError(f"--sizes {wrong[0]}; expected {LEAST_DETAIL} to {LARGEST} pixels")
        if len(set(self.sizes)) < 2:
            raise UserError(
                f"--sizes {','.join(map(str, self.sizes))}: one size has nothing to be compared with; expected two or more, such as 28,224"
            )
        if not self.ks or min(self.ks) < 1:
            raise UserError(f"--k {','.join(map(str, self.ks))}; expected numbers from 1 on")
        self.embed.refuse_nonsense()
        self.search.refuse_nonsense()
        self.evaluate({}, within=max(self.ks)).refuse_nonsense()
