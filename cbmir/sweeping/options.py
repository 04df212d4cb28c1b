"""What is asked of a study of search effort."""

from __future__ import annotations

from dataclasses import dataclass

from cbmir.errors import UserError, nearest
from cbmir.evaluating.options import KS, EvaluateOptions, refuse_unknown_metrics
from cbmir.index import METRICS
from cbmir.indexing.codec import DTYPES

_LEAST = {"connectivities": ("--connectivity", 2), "expansions": ("--expansions", 1), "reranks": ("--reranks", 1), "ks": ("--k", 1)}  # fmt: skip


@dataclass(frozen=True)
class EffortOptions:
    """What decides a sweep; all of it but overwrite stands in the run.json of search_effort, `device` as what it came to."""

    gallery: str = "split = 'train'"
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()
    metric: str = "cos"
    dtypes: tuple[str, ...] = DTYPES
    pcas: tuple[int | None, ...] = (None,)  # principal axes; None: everything
    connectivities: tuple[int, ...] = (16,)
    expansions: tuple[int, ...] = (16, 32, 64, 128, 256)
    reranks: tuple[int, ...] = (1, 2, 4)
    expansion_add: int = 128
    ks: tuple[int, ...] = KS  # depths of the figures; the largest is how many neighbors are searched
    scores: tuple[str, ...] = ("precision_at_k",)  # of sql/metrics, beside ann_recall
    recall: float = 0.99  # at the largest k, that a recommended point has
    rounds: int = 3  # timings, of which the median counts
    timed_queries: int = 4_096  # of each round, at the most
    threads: int | None = None  # that search; None: as many as cores
    resamples: int = 1_000
    seed: int = 0  # of resamples, and of the choice of timed queries
    allow_overlap: bool = False
    keep_graphs: bool = False
    device: str = "auto"  # of exact search
    overwrite: bool = False  # measure anew what has been measured

    @property
    def depth(self) -> int:
        return max(self.ks)

    @property
    def figures(self) -> EvaluateOptions:
        """The same for an evaluation of one point."""
        metrics = tuple(dict.fromkeys(("ann_recall", *self.scores)))
        return EvaluateOptions(
            ks=self.ks,
            metrics=metrics,
            slices=(),
            resamples=self.resamples,
            seed=self.seed,
            allow_overlap=self.allow_overlap,
            levels=("label",),
        )

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be, by the names of the flags."""
        for dtype in self.dtypes:
            if dtype not in DTYPES:
                near = nearest(dtype, list(DTYPES)) or f"expected some of: {', '.join(DTYPES)}"
                raise UserError(f"--dtypes {dtype}: no type of graphs; {near}")
        if self.metric not in METRICS:
            raise UserError(f"--metric {self.metric}; expected one of: {', '.join(METRICS)}")
        for name, (flag, least) in _LEAST.items():
            if not getattr(self, name) or min(getattr(self, name)) < least:
                found = ",".join(map(str, getattr(self, name))) or "nothing"
                raise UserError(f"{flag} {found}; expected numbers from {least} on")
        if any(pca is not None and pca < 1 for pca in self.pcas):
            raise UserError(f"--pca {min(p for p in self.pcas if p is not None)}; expected 1 or more, or all")
        for name in ("expansion_add", "rounds", "timed_queries", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}; expected 1 or more")
        if not 0 < self.recall <= 1:
            raise UserError(f"--recall {self.recall}; expected a share above 0, such as 0.99")
        refuse_unknown_metrics(self.scores, flag="--score")
        self.figures.refuse_nonsense()
