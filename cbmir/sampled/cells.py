"""One sample of one encoder's gallery, searched in one way: what it is called, and whether it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cbmir.sampled.options import TUNED, ScalingOptions
from cbmir.search import EXACT
from cbmir.store import Study, path_name, run_record

_OF_AN_INDEX = ("dtype", "pca", "connectivity", "expansion_add", "expansion_search", "recall_at", "rerank")


@dataclass(frozen=True)
class Sampled:
    """An order of an encoder's gallery, of which samples are prefixes."""

    encoder: str
    sampling: str
    seed: int
    order: np.ndarray  # (n,) int64 keys of embedded gallery images
    asked: tuple[int, ...]  # sizes, ascending
    sizes: tuple[int, ...]  # of the prefixes: as asked, or a few more where they hold whole patients

    @property
    def distinct(self) -> tuple[int, ...]:
        """Sizes of the prefixes, each once."""
        return tuple(sorted(set(self.sizes)))

    def keys(self, asked: int) -> np.ndarray:
        """Ascending keys of one sample."""
        return np.sort(self.order[: self.sizes[self.asked.index(asked)]])


@dataclass(frozen=True)
class Cell:
    """One line of the study's results: encoder x index x sample."""

    encoder: str
    index: str
    sampling: str
    seed: int
    size: int  # as asked

    @property
    def parts(self) -> tuple[str, ...]:
        return (
            "scaling_cells",
            path_name(self.encoder),
            path_name(self.index),
            f"{self.sampling}-s{self.seed}-n{self.size}",
        )

    def record(self, inputs: dict[str, str], options: ScalingOptions, *, command: Sequence[str] = ()) -> dict[str, Any]:
        """run.json of the cell as it will be, but for what is measured; command: its words, which are no part of what was asked."""
        sample = {"sampling": self.sampling, "seed": self.seed, "size": self.size}
        parameters = options.figures() | sample | of_index(self.index, options)
        return run_record("scaling_cells", parameters=parameters, inputs=inputs, rows=0, command=list(command))

    def is_done(self, study: Study, draft: dict[str, Any]) -> bool:
        """Whether its figures are there, of the same inputs and parameters."""
        before = study.run_of(*self.parts)
        return before is not None and before["fingerprint"] == draft["fingerprint"]


def of_index(index: str, options: ScalingOptions) -> dict[str, Any]:
    """What decides an index of a sample, beside the question; nothing of exact search."""
    if index == EXACT:
        return {}
    asked = asdict(options.index)
    tuned = {"recall": options.recall} if index.endswith(TUNED) else {}
    return {name: asked[name] for name in _OF_AN_INDEX} | tuned


def neighbors_of(encoder: str, sampling: str, seed: int, asked: int) -> tuple[str, ...]:
    """Where the exact neighbors of one sample lie while the study needs them."""
    return ("scaling_neighbors", path_name(encoder), f"{sampling}-s{seed}", f"n{asked}")
