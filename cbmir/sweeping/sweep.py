"""The points of one encoder: measured one after the other, kept as they are measured, and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from cbmir.errors import UserError
from cbmir.evaluating.scoring import score
from cbmir.evaluating.searches import Searched
from cbmir.exclusions import exclusion_codes, exclusion_inputs
from cbmir.index import AREA, build_index, open_index
from cbmir.indexing.tune import sample_of
from cbmir.progress import Progress
from cbmir.search import MOST_NEIGHBORS, Roles, roles_of, write_neighbors
from cbmir.searching.searchers import Codes, ExactSearch, IndexSearch, torch_device
from cbmir.searching.spread import Searcher, in_turn
from cbmir.searching.threads import computing_with, cores
from cbmir.store import Study, path_name, run_record
from cbmir.sweeping.front import Row, rows_of
from cbmir.sweeping.measuring import Timed, gallery_source, processor, speed
from cbmir.sweeping.options import EffortOptions
from cbmir.sweeping.points import Graph, Point, graphs, points_of, raised_line
from cbmir.vectors import Vectors

POINTS, GRAPHS = "effort_points", "effort_graphs"


@dataclass
class Sweep:
    """The points of one encoder."""

    study: Study
    encoder: str
    options: EffortOptions
    vectors: Vectors = field(init=False)
    roles: Roles = field(init=False)
    codes: Codes = field(init=False)
    inputs: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        study, options = self.study, self.options
        self.vectors = Vectors(study, self.encoder)
        self.roles = roles_of(study, self.vectors, options.gallery, options.queries)
        self.codes = exclusion_codes(study, options.exclude_same)
        self.inputs = {
            "embeddings": self.vectors.run["fingerprint"],
            "manifest": study.require("manifest")["fingerprint"],
        }
        self.inputs |= exclusion_inputs(study, options.exclude_same)
        self._refuse_what_does_not_fit()

    @property
    def threads(self) -> int:
        return self.options.threads or cores()

    @property
    def area(self) -> str:
        """Where graphs are built."""
        return AREA if self.options.keep_graphs else GRAPHS

    def title(self) -> str:
        """What was measured, for people."""
        return (
            f"search effort of {self.encoder}: {len(self.roles.queries):,} queries in {len(self.roles.gallery):,} images, "
            f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        )

    def raised_line(self) -> str | None:
        return raised_line(self.options, **self._of_the_gallery())

    @property
    def made_of(self) -> str:
        return made_of(self.inputs["embeddings"], self.inputs["manifest"])

    def _of_the_gallery(self) -> dict[str, Any]:
        return {"gallery": len(self.roles.gallery), "passes_over": self.codes[1].shape[1] > 0}

    def _refuse_what_does_not_fit(self) -> None:
        most = min(len(self.roles.gallery), MOST_NEIGHBORS)
        if self.options.depth > most:
            raise UserError(
                f"--k {self.options.depth} is too deep for the gallery of {self.encoder} ({len(self.roles.gallery):,} embedded images); "
                f"expected 1 to {most}"
            )
        for pca in self.options.pcas:
            if pca is not None and pca > self.vectors.dim:
                raise UserError(
                    f"--pca {pca}; the vectors of {self.encoder} have {self.vectors.dim} numbers; expected as many or fewer, or all"
                )

    def measured(self, say: Callable[[str], None]) -> list[Row]:
        """Measure what is not there yet, and score every point."""
        self._sweep_out()
        plan = {graph: points_of(graph, self.options, **self._of_the_gallery()) for graph in graphs(self.options)}
        points = [Point(), *(point for some in plan.values() for point in some)]
        there = [point for point in points if self._run_of(point)]
        if there:
            say(f"{self.encoder}: {len(there):,} of {len(points):,} points have been measured already")
        with Progress("search effort", len(points), unit="points") as progress:
            progress.update(len(there))
            with computing_with(self.threads):
                for _ in self._measure(plan):
                    progress.advance(1)
        if not self.options.keep_graphs:
            self._remove_graphs()
        return self._scored([*points, *self._further(points)])

    def _further(self, points: list[Point]) -> list[Point]:
        """Points of earlier sweeps that this one would measure in the same way."""
        names = self.study.names(POINTS, path_name(self.encoder))
        runs = [self.study.run_of(POINTS, path_name(self.encoder), path_name(name)) for name in names]
        found = [Point.of(run["parameters"]) for run in runs if run]
        return [point for point in found if point not in points and self._run_of(point)]

    def _sweep_out(self) -> None:
        """Remove points of other vectors or another manifest than there are now, or all where they are to be measured anew."""
        for name in self.study.names(POINTS, path_name(self.encoder)):
            run = self.study.run_of(POINTS, path_name(self.encoder), path_name(name))
            outdated = run is None or made_of(run["inputs"]["embeddings"], run["inputs"]["manifest"]) != self.made_of
            if self.options.overwrite or outdated:
                self.study.delete(POINTS, path_name(self.encoder), path_name(name))
        if self.options.overwrite:
            self._remove_graphs()

    def _remove_graphs(self) -> None:
        """Those of this encoder, and the place of all where there are no others."""
        self.study.delete(GRAPHS, path_name(self.encoder))
        if not self.study.names(GRAPHS):
            self.study.delete(GRAPHS)

    def _measure(self, plan: dict[Graph, list[Point]]) -> Iterator[Point]:
        """Every point that is not there yet; a graph is built where one of its points is missing."""
        timed: Timed | None = None
        for graph, points in ({None: [Point()]} | plan).items():
            missing = [point for point in points if self._run_of(point) is None]
            wanted = graph is not None and self.options.keep_graphs
            if not missing and not wanted:
                continue
            timed = timed or self._timed()
            make, costs = self._searchers(graph)
            for point in missing:
                self._publish(point, make(point), timed, costs)
                yield point

    def _timed(self) -> Timed:
        keys = sample_of(self.roles.queries, seed=self.options.seed, most=self.options.timed_queries)
        return Timed(*self.vectors.load(keys), rounds=self.options.rounds)

    def _searchers(self, graph: Graph | None) -> tuple[Callable[[Point], Searcher], dict[str, Any]]:
        """What makes a searcher of each point, and what the graph costs."""
        options, gallery, codes = self.options, self.roles.gallery, self.codes
        if graph is None:
            source = gallery_source(self.vectors, gallery)

            def exact(point: Point) -> Searcher:
                return ExactSearch(
                    source, gallery, codes, k=options.depth, metric=options.metric, device=options.device
                )

            return exact, {"build_seconds": None, "graph_bytes": None}
        run = self._built(graph)
        index = open_index(self.study, self.encoder, graph.name, area=self.area)

        def through(point: Point) -> Searcher:
            how = {
                "expansion": point.expansion,
                "rerank": point.rerank,
                "threads": self.threads,
                "device": options.device,
            }
            return IndexSearch(index, gallery, codes, k=options.depth, **how)

        return through, {"build_seconds": run["seconds"], "graph_bytes": run["graph_bytes"]}

    def _built(self, graph: Graph) -> dict[str, Any]:
        """run.json of a graph of this gallery: built, not brought up to it, so that its seconds are those of building.

        One that a killed sweep of another gallery left is replaced; one that was to be kept is the user's, and refused by build_index.
        """
        asked = graph.build_options(self.options)
        before = self.study.run_of(self.area, path_name(self.encoder), path_name(graph.name))
        outdated = before and made_of(before["inputs"]["embeddings"], before["inputs"]["manifest"]) != self.made_of
        other = before and any(
            before["parameters"][name] != getattr(asked, name) for name in ("gallery", "metric", "expansion_add")
        )
        anew = self.options.overwrite or outdated or (other and not self.options.keep_graphs)
        options = replace(asked, overwrite=bool(anew))
        return build_index(self.study, self.encoder, graph.name, options, area=self.area)[0]

    def _publish(self, point: Point, searcher: Searcher, timed: Timed, costs: dict[str, Any]) -> None:
        """The neighbors of all queries, then the timings: a point that is there is whole."""
        with self.study.publishing(*self._address(point)) as out:
            rows = write_neighbors(out, in_turn(searcher, self.vectors.tiles(self.roles.queries, rows=searcher.rows)))
            told = speed(timed, timed.seconds(searcher)) | costs
            sizes = {
                "queries": len(self.roles.queries),
                "gallery_size": len(self.roles.gallery),
                "threads": self.threads,
            }
            out.run = self._draft(point) | told | sizes | {"rows": rows}

    def _address(self, point: Point) -> tuple[str, str, str]:
        return (POINTS, path_name(self.encoder), path_name(point.name))

    def _draft(self, point: Point) -> dict[str, Any]:
        """run.json of a point, as far as it is known before it is measured."""
        options = self.options
        parameters = point.parameters() | {
            "index": point.name,
            "k": options.depth,
            "gallery": options.gallery,
            "queries": options.queries,
            "exclude_same": list(options.exclude_same),
            "metric": options.metric,
            "expansion_add": options.expansion_add,
            "rounds": options.rounds,
            "timed": options.timed_queries,
            "seed": options.seed,
            "threads": self.threads,
            "processor": processor(),
            "device": torch_device(options.device),  # of exact search
        }
        return run_record("search-effort", parameters=parameters, inputs=self.inputs, rows=0)

    def _run_of(self, point: Point) -> dict[str, Any] | None:
        """run.json of a point that has been measured as this sweep would measure it."""
        run = self.study.run_of(*self._address(point))
        return run if run and run["fingerprint"] == self._draft(point)["fingerprint"] else None

    def _scored(self, points: list[Point]) -> list[Row]:
        """The figures of all points, held against the exact one, which is the first."""
        searches = [
            Searched(self.encoder, point.name, self._run_of(point), at=self._address(point)) for point in points
        ]
        rows: list[Row] = []
        with Progress("score", len(searches), unit="points") as progress:
            for searched in searches:
                scores = score(self.study, searched, searches[0], self.options.figures)
                rows += rows_of(searched, scores, self.options.ks)
                progress.advance(1)
        return rows


def made_of(embeddings: str | None, manifest: str) -> str:
    """Two fingerprints as one: points of other vectors, or of another manifest, no longer hold."""
    return f"{embeddings} {manifest}"
