"""What is asked of a study of image sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.table import LARGEST, LEAST_DETAIL
from cbmir.errors import UserError
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
    resamples: int = 1_000
    permutations: int = 10_000
    seed: int = 0  # of resamples and permutations
    allow_overlap: bool = False

    @property
    def evaluate(self) -> EvaluateOptions:
        return EvaluateOptions(
            ks=self.ks,
            resamples=self.resamples,
            permutations=self.permutations,
            seed=self.seed,
            allow_overlap=self.allow_overlap,
            compared=(*COMPARED, MAP),
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
        self.evaluate.refuse_nonsense()
