"""The points of a sweep: graphs, and how each of them is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cbmir.index import IndexOptions
from cbmir.search import EXACT
from cbmir.searching.searchers import candidates_needed, deepest
from cbmir.sweeping.options import EffortOptions


@dataclass(frozen=True)
class Graph:
    """What decides a graph, beside the gallery and the metric of the sweep."""

    dtype: str
    pca: int | None
    connectivity: int

    @property
    def name(self) -> str:
        axes = "" if self.pca is None else f"-pca{self.pca}"
        return f"effort-{self.dtype}{axes}-c{self.connectivity}"

    def build_options(self, options: EffortOptions) -> IndexOptions:
        return IndexOptions(
            gallery=options.gallery,
            metric=options.metric,
            dtype=self.dtype,
            pca=self.pca,
            connectivity=self.connectivity,
            expansion_add=options.expansion_add,
        )


@dataclass(frozen=True)
class Point:
    """One way to search; graph None: exact search, which has neither expansion nor re-ranking."""

    graph: Graph | None = None
    expansion: int | None = None
    rerank: int | None = None

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Point:
        """The point that a run.json tells of."""
        if parameters["dtype"] == EXACT:
            return cls()
        graph = Graph(parameters["dtype"], parameters["pca"], parameters["connectivity"])
        return cls(graph, parameters["expansion_search"], parameters["rerank"])

    @property
    def name(self) -> str:
        return f"{self.graph.name}-e{self.expansion}-r{self.rerank}" if self.graph else EXACT

    def parameters(self) -> dict[str, Any]:
        """For run.json, by the names of the contract SEARCH_EFFORT."""
        graph = self.graph
        return {
            "dtype": graph.dtype if graph else EXACT,
            "pca": graph.pca if graph else None,
            "connectivity": graph.connectivity if graph else None,
            "expansion_search": self.expansion,
            "rerank": self.rerank,
        }


def graphs(options: EffortOptions) -> list[Graph]:
    """Every graph of the sweep, each once."""
    return list(
        dict.fromkeys(
            Graph(dtype, pca, connectivity)
            for dtype in options.dtypes
            for pca in options.pcas
            for connectivity in options.connectivities
        )
    )


def points_of(graph: Graph, options: EffortOptions, *, gallery: int, passes_over: bool) -> list[Point]:
    """Every way to search a graph of `gallery` vectors, each once.

    A walk keeps as many candidates as are asked of it, so that a smaller expansion is no point of its own: it is measured as `least_expansion`;
    and no more than there are vectors, so that a larger one is measured as their number.
    """
    found = dict.fromkeys(
        (_held_to(expansion, options, rerank, gallery=gallery, passes_over=passes_over), rerank)
        for rerank in options.reranks
        for expansion in options.expansions
    )
    return [Point(graph, expansion, rerank) for expansion, rerank in found]


def _held_to(expansion: int, options: EffortOptions, rerank: int, *, gallery: int, passes_over: bool) -> int:
    return max(min(expansion, gallery), least_expansion(options, rerank, gallery=gallery, passes_over=passes_over))


def least_expansion(options: EffortOptions, rerank: int, *, gallery: int, passes_over: bool) -> int:
    """Candidates that a search asks for at this re-ranking, which a walk keeps in any case."""
    asked = candidates_needed(k=options.depth, rerank=rerank, passes_over=passes_over)
    return min(asked, deepest(k=options.depth, graph=gallery))


def raised_line(options: EffortOptions, *, gallery: int, passes_over: bool) -> str | None:
    """What a person is told of expansions that are too small or too large to be points; None where there are none."""
    said, lines = [], []
    for rerank in options.reranks:
        least = least_expansion(options, rerank, gallery=gallery, passes_over=passes_over)
        below = [str(expansion) for expansion in options.expansions if expansion < least]
        if below:
            said.append(f"{', '.join(below)} as {least} at rerank {rerank}")
    if said:
        lines.append(
            f"expansions below the candidates that are scored anyway (rerank x k) are measured as those: {'; '.join(said)}"
        )
    if above := [f"{expansion:,}" for expansion in options.expansions if expansion > gallery]:
        lines.append(f"expansions beyond the gallery are measured as its {gallery:,} images: {', '.join(above)}")
    return "; ".join(lines) or None
