"""What is asked of volumes."""

from __future__ import annotations

from dataclasses import dataclass

from cbmir.errors import UserError
from cbmir.search import DEPTH, MOST_NEIGHBORS
from cbmir.searching.distance import METRICS

MODES = ("count", "rank", "late")
MEAN = "mean"  # the reduction whose neighbors late interaction ranks again


@dataclass(frozen=True)
class ReductionOptions:
    """Which vectors of volumes are made; all of it but overwrite and the cluster stands in their run.json."""

    reductions: tuple[str, ...] = (MEAN,)
    overwrite: bool = False
    ray_address: str | None = None


@dataclass(frozen=True)
class VolumeSearchOptions:
    """What decides a search of volumes by their slices; all of it but overwrite and device stands in its run.json."""

    modes: tuple[str, ...] = MODES
    k: int | None = None  # volumes found; None: 100, or the gallery where it is smaller
    gallery: str = "split = 'train'"
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()
    metric: str = "cos"
    neighbors: int = 10  # count and rank: nearest slices of each slice of the query
    candidates: int | None = (
        DEPTH  # late: volumes nearest by the mean vector, ranked again; None: every volume of the gallery
    )
    device: str = "auto"
    overwrite: bool = False

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be."""
        for mode in self.modes:
            if mode not in MODES:
                raise UserError(f"--by {mode}; expected some of: {', '.join(MODES)}")
        if self.metric not in METRICS:
            raise UserError(f"--metric {self.metric}; expected one of: {', '.join(METRICS)}")
        for flag, value in (("-k", self.k), ("--neighbors", self.neighbors), ("--candidates", self.candidates)):
            if value is not None and not 1 <= value <= MOST_NEIGHBORS:
                raise UserError(f"{flag} {value}; expected 1 to {MOST_NEIGHBORS:,}")
        if self.candidates is not None and self.k is not None and self.candidates < self.k and "late" in self.modes:
            raise UserError(
                f"--candidates {self.candidates} is fewer than -k {self.k}; expected as many or more, or all"
            )
