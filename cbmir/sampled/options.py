"""What is asked of a study of index sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cbmir.errors import UserError, nearest
from cbmir.evaluating.options import judges
from cbmir.index import IndexOptions, refuse_bad_name
from cbmir.search import EXACT, TRAIN, SearchOptions
from cbmir.sql_files import names

SAMPLINGS = ("random", "stratified", "patient")
SCORES = ("precision_at_k", "precision_at_k_capped")
TUNED = "-tuned"
MOST_DEPTH = 100


@dataclass(frozen=True)
class ScalingOptions:
    """What decides the figures of the samples; all of it but the last block stands in their run.json."""

    sizes: tuple[int | None, ...]  # ascending; None, at the end: all of the gallery
    seeds: int = 5  # samples of each size: seeds 0 to seeds - 1
    sampling: str = "random"
    indexes: tuple[str, ...] = (EXACT,)
    gallery: str = TRAIN
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()
    metric: str = "cos"
    k: int | None = (
        None  # neighbors a query; None: as the samples that are there have, else 100, or the smallest sample
    )
    ks: tuple[int, ...] = (1, 3, 5, 10)
    scores: tuple[str, ...] = SCORES  # stems of sql/metrics
    index: IndexOptions = field(default_factory=IndexOptions)  # how a graph is built, and searched at a fixed expansion
    recall: float = 0.99  # that the expansion of NAME-tuned is found for, anew for each sample
    resamples: int = 1_000
    at: tuple[int, ...] | None = None  # sizes that fits are extrapolated to; None: 2, 4 and 10 times the largest
    allow_overlap: bool = False

    cpus_per_task: int = 1
    ray_address: str | None = None
    device: str = "auto"
    overwrite: bool = False

    @property
    def depth(self) -> int:
        """Neighbors a query; where `k` says nothing, as many as the sizes alone let expect."""
        return min(size for size in (*self.sizes, MOST_DEPTH) if size is not None) if self.k is None else self.k

    @property
    def walk_depth(self) -> int:
        """Neighbors a query through an index: no more than figures ask for, since each takes `rerank` candidates, whatever the expansion."""
        return min(self.depth, max(*self.ks, self.index.recall_at))

    @property
    def told(self) -> str:
        """The metric that a person is told of."""
        return "precision_at_k" if "precision_at_k" in self.scores else self.scores[0]

    def question(self) -> dict[str, Any]:
        """What decides which neighbors a sample has; one study asks one question of all."""
        return {
            "gallery": self.gallery,
            "queries": self.queries,
            "exclude_same": list(self.exclude_same),
            "metric": self.metric,
            "depth": self.depth,
        }

    def figures(self) -> dict[str, Any]:
        """The question, and which figures are made of the answers."""
        return self.question() | {"k": list(self.ks), "score": list(self.scores), "resamples": self.resamples}

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be, of the flags alone."""
        SearchOptions(k=self.k, metric=self.metric).refuse_nonsense()
        for name, least in (("seeds", 1), ("cpus_per_task", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}; expected {least} or more")
        if self.sampling not in SAMPLINGS:
            raise UserError(f"--sampling {self.sampling}; expected one of: {', '.join(SAMPLINGS)}")
        if not self.sizes or any(size is not None and size < 1 for size in self.sizes):
            raise UserError(f"--sizes {written(self.sizes)}; expected numbers of images from 1 on, or all")
        if any(size is None or size < 1 for size in self.at or ()):
            raise UserError(f"--at {written(self.at)}; expected numbers of images")
        if not self.indexes:
            raise UserError("--index names none; expected exact, names of indexes, or both")
        for name in self.indexes:
            if name != EXACT:
                refuse_bad_name(name)
            if name.endswith(TUNED):
                raise UserError(f"--index {name}: that ending is for what is tuned; expected another name")
        if not 0 < self.recall <= 1:
            raise UserError(f"--recall {self.recall}; expected a share above 0, such as 0.99")
        self.refuse_depths()
        self._refuse_scores()
        self.index.refuse_nonsense()

    def refuse_depths(self) -> None:
        """UserError for figures deeper than the neighbors of a query."""
        if not self.ks:
            raise UserError("--k names no depth; expected one or more, such as 1,5")
        too_deep = [k for k in self.ks if not 1 <= k <= self.depth]
        if too_deep:
            raise UserError(
                f"--k {too_deep[0]}: each query has {self.depth} neighbors, as many as the samples that are there have, the smallest has images, or -k asks for; "
                f"expected 1 to {self.depth}, or larger --sizes"
            )

    def _refuse_scores(self) -> None:
        if not self.scores:
            raise UserError("--score names none; expected stems of sql/metrics, such as precision_at_k")
        known = [name for name in names("metrics") if judges(name)]
        for name in self.scores:
            if name not in known:
                raise UserError(f"--score {name}; {nearest(name, known) or 'expected one of: ' + ', '.join(known)}")
        if self.resamples < 0 or self.resamples in range(1, 100):
            raise UserError(f"--resamples {self.resamples}; expected 100 or more, or 0 for no intervals")


def written(sizes: tuple[int | None, ...]) -> str:
    """(1000, None) -> '1000,all'."""
    return ",".join("all" if size is None else str(size) for size in sizes)
