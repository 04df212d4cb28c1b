"""What is asked of an evaluation, and which of it there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cbmir.errors import UserError, nearest
from cbmir.sql_files import names, parameters_of, read

LEVELS = ("label", "region", "modality", "modality_region", "label_in_region")
KS = (1, 3, 5, 10)
SLICES = ("label", "region", "modality", "dataset")
AT_EVERY_LEVEL = ("precision_at_k", "precision_at_k_capped")  # the others at label, unless they are asked for by name


@dataclass(frozen=True)
class EvaluateOptions:
    """What decides the figures; all of it stands in the run.json of metrics."""

    ks: tuple[int, ...] | None = None  # None: 1, 3, 5, 10, as far as the search went
    metrics: tuple[str, ...] | None = None  # stems of sql/metrics; None: all
    slices: tuple[str, ...] | None = None  # columns of the manifest; None: label, region, modality, dataset
    resamples: int = 1_000  # of patients, for intervals; 0: no intervals and no comparisons
    permutations: int = 10_000  # for the p-values of comparisons
    seed: int = 0
    allow_overlap: bool = False  # patients on both sides
    levels: tuple[str, ...] = LEVELS  # of relevance
    compared: tuple[str, ...] | None = (
        None  # metrics of comparisons; None: those asked for, else precision_at_k and average_precision
    )

    def record(self) -> dict[str, Any]:
        """The parameters of run.json."""
        return {
            "k": list(self.ks or KS),
            "metric": list(self.metrics) if self.metrics else None,
            "slice": list(self.slices) if self.slices else None,
            "resamples": self.resamples,
            "permutations": self.permutations,
            "seed": self.seed,
            "allow_overlap": self.allow_overlap,
            "compared": list(self.compared) if self.compared else None,
        }

    def refuse_nonsense(self) -> None:
        """UserError for metrics that there are not, and numbers outside what they can be."""
        refuse_unknown_metrics((*(self.metrics or ()), *(self.compared or ())), flag="--metric")
        for name, least in (("resamples", 0), ("permutations", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)}; expected {least} or more")
        if self.resamples in range(1, 100):
            raise UserError(
                f"--resamples {self.resamples}: too few for a 95 % interval; expected 100 or more, or 0 for no intervals"
            )

    def metrics_at(self, relevance: str) -> list[str]:
        """Metrics that judge neighbors, of those asked for, at one level; relevance '': those that ask for no relevance."""
        if relevance == "":
            return [name for name in self._asked() if not judges(name)]
        judged = [name for name in self._asked() if judges(name)]
        if self.metrics or relevance == "label":
            return judged
        return [name for name in judged if name in AT_EVERY_LEVEL]

    def _asked(self) -> list[str]:
        return list(dict.fromkeys(self.metrics or names("metrics")))


def refuse_unknown_metrics(metrics: Sequence[str], *, flag: str) -> None:
    """UserError for a name that is no stem of sql/metrics."""
    for metric in metrics:
        if metric not in names("metrics"):
            near = nearest(metric, names("metrics")) or f"there: {', '.join(names('metrics'))}"
            raise UserError(f"{flag} {metric}: no such metric; {near}")


def judges(metric: str) -> bool:
    """Whether a metric asks which neighbors are relevant; ann_recall and duplicates_at_k do not."""
    text = read("metrics", metric)
    return not any(table in text for table in ("exact_neighbors", "duplicates("))


def takes_k(metric: str) -> bool:
    """Whether a metric is asked at a k, or once over all neighbors."""
    return "k" in parameters_of(read("metrics", metric))
