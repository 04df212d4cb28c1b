"""The searches of a study that can be scored, and which of them can be compared."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cbmir.errors import UserError
from cbmir.evaluating.options import KS
from cbmir.origin import refuse_outdated_volumes
from cbmir.search import EXACT, outdated
from cbmir.store import Study, path_name


@dataclass(frozen=True)
class Searched:
    """One neighbors dataset of a study, with what its run.json says of the search."""

    encoder: str
    index: str
    run: dict[str, Any]
    at: tuple[str, ...] | None = None  # where its neighbors lie; None: among the study's
    sample: np.ndarray | None = (
        None  # (m,) keys of the gallery images that it searched; None: those that its predicate selects
    )

    @property
    def parts(self) -> tuple[str, ...]:
        return self.at or ("neighbors", path_name(self.encoder), path_name(self.index))

    @property
    def name(self) -> str:
        return f"{self.encoder} {self.index}"

    @property
    def depth(self) -> int:
        return self.run["parameters"]["k"]

    @property
    def is_exact(self) -> bool:
        return self.run["parameters"]["index"] == EXACT

    @property
    def is_approximate(self) -> bool:
        """Whether it went through an index; volumes that are found by their slices approximate nothing."""
        return not self.is_exact and not self.run.get("by_slices")

    def asks_the_same_as(self, other: Searched) -> bool:
        """Whether both compare the same queries with the same gallery under the same exclusions."""
        return self.run["compared"] == other.run["compared"]


def find_searches(study: Study) -> list[Searched]:
    """Every finished neighbors dataset, exact ones first; refuses unfinished and outdated ones by name, and a study that has none."""
    found = searches_there(study)
    if not found:
        raise UserError(f"the study {study.address} has no neighbors to evaluate; make them with: cbmir search")
    return found


def searches_there(study: Study, *, without: Collection[tuple[str, str]] = ()) -> list[Searched]:
    """The same, of what there is but for (encoder, index) in `without`, which are not looked at."""
    study.require("manifest")
    refuse_outdated_volumes(study)
    found = []
    for encoder in study.names("neighbors"):
        for index in study.names("neighbors", path_name(encoder)):
            if (encoder, index) in without:
                continue
            run = study.require("neighbors", path_name(encoder), path_name(index))
            if outdated(study, encoder, run):
                asked = run["parameters"]["index"]
                made = "the index or the duplicates found" if "duplicates" in run["inputs"] else "the index"
                name = f" --save-as {index}" if index != asked else ""
                raise UserError(
                    f"neighbors of {encoder} by {index} are older than the manifest, the embeddings or {made}; search "
                    f"again, with the same flags: cbmir search --study {study.address} --encoder {encoder} --index {asked}{name}"
                )
            found.append(Searched(encoder, index, run))
    return sorted(found, key=lambda s: (s.encoder, s.index != EXACT, s.index))


def depths(searched: Searched, ks: Sequence[int] | None) -> list[int]:
    """The k that a search is scored at; UserError for one that it did not go to."""
    too_deep = [k for k in ks or () if not 1 <= k <= searched.depth]
    if too_deep:
        raise UserError(
            f"--k {too_deep[0]}: neighbors of {searched.encoder} by {searched.index} were searched with -k {searched.depth}; "
            f"expected 1 to {searched.depth}; search again with a larger -k"
        )
    return sorted(set(ks)) if ks else [k for k in KS if k <= searched.depth]


def exact_of(searched: Searched, searches: list[Searched]) -> Searched | None:
    """The exact search that an approximate one is held against, None where there is none alike."""
    if searched.is_exact:
        return None
    exact = [s for s in searches if s.encoder == searched.encoder and s.is_exact]
    return next((s for s in exact if s.asks_the_same_as(searched)), None)
