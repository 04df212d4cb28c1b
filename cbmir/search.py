"""Stage: queries x gallery -> neighbors, exact or through an index."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.exclusions import exclusion_codes, exclusion_inputs
from cbmir.index import METRICS, open_index
from cbmir.indexing.opened import OpenIndex
from cbmir.origin import refuse_outdated_volumes
from cbmir.progress import Progress
from cbmir.schemas import NEIGHBORS
from cbmir.searching.searchers import Codes, ExactSearch, Found, IndexSearch, torch_device
from cbmir.searching.spread import in_turn, spread
from cbmir.select import keys_where
from cbmir.store import Publication, Study, changed_parameter, fingerprint, path_name, run_record
from cbmir.vectors import Part, Vectors, find_encoder

EXACT = "exact"
TRAIN = "split = 'train'"
DEPTH = 100
MOST_NEIGHBORS = 10_000  # ranks are int16
ROWS_PER_FILE = 1_000_000  # neighbors


@dataclass(frozen=True)
class SearchOptions:
    """What decides a search; all of it stands in its run.json."""

    k: int | None = None  # None: 100, or the gallery where it is smaller
    gallery: str | None = None  # None: the index's own gallery; split = 'train' for exact
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()  # manifest columns: a neighbor with the query's own value is passed over
    metric: str | None = None  # of exact search: cos, ip, l2; None: the index's own, cos for exact
    expansion_search: int | None = None  # None: the index's own
    rerank: int | None = None  # candidates a neighbor; None: the index's own
    tasks: int = 1  # Ray tasks that share the work; 1: this process
    ray_address: str | None = None
    device: str = "auto"
    overwrite: bool = False
    save_as: str | None = None  # another name than the index's, for a second search of it

    def refuse_nonsense(self) -> None:
        """UserError for numbers outside what they can be."""
        if self.k is not None and not 1 <= self.k <= MOST_NEIGHBORS:
            raise UserError(f"-k {self.k}; expected 1 to {MOST_NEIGHBORS:,}")
        for name in ("expansion_search", "rerank", "tasks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}; expected 1 or more")
        if self.metric is not None and self.metric not in METRICS:
            raise UserError(f"--metric {self.metric}; expected one of: {', '.join(METRICS)}")


@dataclass(frozen=True)
class Roles:
    """Which images a search compares."""

    gallery: np.ndarray  # ascending keys that have a vector
    queries: np.ndarray  # ascending keys that have a vector
    gallery_asked: np.ndarray  # ascending keys, embedded or not
    queries_asked: np.ndarray  # ascending keys, embedded or not: what failed counts in every figure

    def digest(self) -> str:
        """The same for the same images in the same roles, however the predicates were written."""
        return hashlib.sha256(self.gallery.tobytes() + b"/" + self.queries.tobytes()).hexdigest()

    def question(self) -> str:
        """The same where the same was asked, whatever could not be embedded: failing is an encoder's own fault, and its queries score 0."""
        return hashlib.sha256(self.gallery_asked.tobytes() + b"/" + self.queries_asked.tobytes()).hexdigest()

    def told(self, exclude_same: tuple[str, ...], metric: str) -> dict[str, Any]:
        """What the run.json of a search says of them: counts, and what identifies the question and what is compared."""
        return {
            "question": fingerprint(self.question(), sorted(exclude_same)),
            "compared": fingerprint(self.digest(), sorted(exclude_same), metric),
            "queries": len(self.queries),
            "queries_not_embedded": len(self.queries_asked) - len(self.queries),
            "gallery": len(self.gallery),
            "gallery_not_embedded": len(self.gallery_asked) - len(self.gallery),
        }


def search(study: Study, encoder: str, index: str, options: SearchOptions) -> tuple[dict[str, Any], bool]:
    """Find and store the neighbors of every query -> (run.json of neighbors/E/I, whether it was searched now).

    Neighbors found with other parameters are refused unless `overwrite`; outdated ones are searched again.
    """
    options.refuse_nonsense()
    refuse_outdated_volumes(study)
    if options.save_as == EXACT and index != EXACT:
        raise UserError(f"--save-as exact with --index {index}: that name is for exact neighbors; choose another")
    encoder = find_encoder(study, encoder)
    vectors = Vectors(study, encoder)
    graph = None if index == EXACT else open_index(study, encoder, index)
    built = graph and graph.run
    metric = _metric(options, index, built)
    gallery = options.gallery or (built["parameters"]["gallery"] if built else TRAIN)
    codes = exclusion_codes(study, options.exclude_same)
    roles = roles_of(study, vectors, gallery, options.queries, built)
    k = depth_of(options.k, len(roles.gallery))
    parameters = {
        "index": index,
        "k": k,
        "gallery": gallery,
        "queries": options.queries,
        "exclude_same": list(options.exclude_same),
        "metric": metric,
        "expansion_search": options.expansion_search,
        "rerank": options.rerank,
    }
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    inputs |= exclusion_inputs(study, options.exclude_same)
    if built:
        inputs["index"] = built["fingerprint"]
    draft = run_record("search", parameters=parameters, inputs=inputs, rows=0)
    name = options.save_as or index
    target = ("neighbors", path_name(encoder), path_name(name))
    before = study.run_of(*target)
    if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
        return before, False
    changed = changed_parameter(before, draft) if before else None
    if changed and not options.overwrite:
        raise UserError(
            f"neighbors of {encoder} by {name} were searched otherwise ({changed}); "
            "store these as well with --save-as NAME, or --overwrite to replace them"
        )
    cut = index == EXACT
    parts = vectors.parts(options.tasks) if cut and options.tasks > 1 else [None] * options.tasks
    make = partial(
        _searcher, parts=parts, address=study.address, encoder=encoder, index=index, gallery=roles.gallery, codes=codes, k=k,
        metric=metric, options=options,
    )  # fmt: skip
    began = time.monotonic()
    with study.publishing(*target) as out, Progress("search", len(roles.queries), unit="queries") as progress:
        if options.tasks == 1:
            searcher = make(0, graph=graph)
            found = in_turn(searcher, vectors.tiles(roles.queries, rows=searcher.rows))
        else:
            found = spread(
                make,
                vectors.tiles(roles.queries, rows=ExactSearch.rows_of(k) if cut else IndexSearch.rows),
                tasks=options.tasks,
                cut_gallery=cut,
                k=k,
                on_gpu=cut and torch_device(options.device) == "cuda",
                ray_address=options.ray_address,
            )
        rows = write_neighbors(out, found, progress.update)
        out.run = (
            draft
            | roles.told(options.exclude_same, metric)
            | {
                "rows": rows,
                "seconds": round(time.monotonic() - began, 2),
            }
        )
    return out.run, True


def _searcher(
    number: int,
    *,
    parts: list[Part | None],
    address: str,
    encoder: str,
    index: str,
    gallery: np.ndarray,
    codes: Codes,
    k: int,
    metric: str,
    options: SearchOptions,
    graph: OpenIndex | None = None,
) -> ExactSearch | IndexSearch:
    """What finds neighbors, made in the process that will."""
    study = Study(address)
    if index == EXACT:
        vectors = Vectors(study, encoder)
        return ExactSearch(vectors, gallery, codes, k=k, metric=metric, device=options.device, part=parts[number])
    graph = graph or open_index(study, encoder, index)
    expansion = options.expansion_search or graph.run["expansion_search"]
    rerank = options.rerank or graph.run["rerank"]
    return IndexSearch(graph, gallery, codes, k=k, expansion=expansion, rerank=rerank, device=options.device)


def _metric(options: SearchOptions, index: str, built: dict | None) -> str:
    if built is None:
        return options.metric or "cos"
    there = built["parameters"]["metric"]
    if options.metric not in (None, there):
        raise UserError(
            f"--metric {options.metric}: index {index} was built for {there}; leave --metric away, or build an index with it"
        )
    return there


def depth_of(asked: int | None, gallery: int) -> int:
    if asked is None:
        return min(DEPTH, gallery)
    if asked > gallery:
        raise UserError(
            f"-k {asked} is larger than the gallery ({gallery:,} embedded images); expected -k {gallery} or less"
        )
    return asked


def roles_of(study: Study, vectors: Vectors, gallery: str, queries: str, built: dict | None = None) -> Roles:
    """Resolve both predicates; refuses an empty role, and a gallery that the index does not hold."""
    keys, asked = {}, {}
    for role, predicate in (("gallery", gallery), ("queries", queries)):
        selected = keys_where(study, predicate, role=role)["image_key"].to_numpy()
        keys[role], asked[role] = vectors.keys(selected), selected
        if len(keys[role]) == 0:
            raise UserError(
                f"the {role} is empty: none of the {len(selected):,} images of {predicate} was embedded by {vectors.encoder}; see failures"
            )
    if built and gallery != built["parameters"]["gallery"]:
        indexed = keys_where(study, built["parameters"]["gallery"], role="gallery")["image_key"].to_numpy()
        outside = len(np.setdiff1d(keys["gallery"], indexed, assume_unique=True))
        if outside:
            raise UserError(
                f"--gallery {gallery!r} selects {outside:,} images that the index does not hold "
                f"(it was built with {built['parameters']['gallery']!r}); build one with that gallery, or search exact"
            )
    return Roles(keys["gallery"], keys["queries"], asked["gallery"], asked["queries"])


def write_neighbors(
    out: Publication, found: Iterator[tuple[np.ndarray, Found]], told: Callable[[int], None] = lambda done: None
) -> int:
    """Neighbors of every block of queries into files of about ROWS_PER_FILE rows -> how many; one block and one file are in memory.

    told: takes how many queries are done.
    """
    rows, done, part = 0, 0, 0
    held: list[pa.Table] = []
    for keys, neighbors in found:
        held.append(as_table(keys, *neighbors))
        done += len(keys)
        told(done)
        if sum(table.num_rows for table in held) >= ROWS_PER_FILE:
            rows, part = rows + _flush(out, held, part), part + 1
            held = []
    return rows + _flush(out, held, part)


def _flush(out: Publication, held: list[pa.Table], part: int) -> int:
    table = pa.concat_tables(held) if held else NEIGHBORS.empty_table()
    out.write_table(table, f"part-{part:05d}.parquet", "neighbors")
    return table.num_rows


def as_table(queries: np.ndarray, keys: np.ndarray, distances: np.ndarray, counts: np.ndarray) -> pa.Table:
    """Neighbors (n, k) with counts (n,) -> rows of the contract; empty places give no row."""
    filled = np.arange(keys.shape[1])[None, :] < counts[:, None]
    ranks = np.broadcast_to(np.arange(1, keys.shape[1] + 1, dtype=np.int16), keys.shape)
    columns = [np.repeat(queries, counts), keys[filled], ranks[filled], distances[filled]]
    return pa.table([pa.array(c) for c in columns], schema=NEIGHBORS)
