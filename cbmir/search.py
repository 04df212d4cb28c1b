"""Stage: queries x gallery -> neighbors, exact or through an index."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.errors import UserError, nearest
from cbmir.exact import QUERY_ROWS, Block, RunningTopK
from cbmir.index import open_index
from cbmir.progress import Progress
from cbmir.schemas import NEIGHBORS
from cbmir.select import attach_manifest, connect, keys_where
from cbmir.store import Study, path_name, run_record
from cbmir.vectors import Vectors, find_encoder

EXACT = "exact"
TRAIN = "split = 'train'"
ROWS_PER_FILE = 1_000_000  # neighbors


@dataclass(frozen=True)
class SearchOptions:
    """What decides a search; all of it stands in its run.json."""

    k: int = 100
    gallery: str | None = None  # None: the index's own gallery; split = 'train' for exact
    queries: str = "split = 'test'"
    exclude_same: tuple[str, ...] = ()  # manifest columns: a neighbor with the query's own value is passed over
    expansion_search: int | None = None  # None: the index's own
    device: str = "auto"
    overwrite: bool = False
    save_as: str | None = None  # another name than the index's, for a second search of it


@dataclass(frozen=True)
class Roles:
    """Which images a search compares."""

    gallery: np.ndarray  # ascending keys that have a vector
    queries: np.ndarray  # ascending keys that have a vector
    gallery_asked: int
    queries_asked: int


def search(study: Study, encoder: str, index: str, options: SearchOptions) -> tuple[dict[str, Any], bool]:
    """Find and store the neighbors of every query -> (run.json of neighbors/E/I, whether it was searched now)."""
    _refuse_nonsense(options)
    encoder = find_encoder(study, encoder)
    vectors = Vectors(study, encoder)
    graph, built = (None, None) if index == EXACT else open_index(study, encoder, index)
    gallery = options.gallery or (built["parameters"]["gallery"] if built else TRAIN)
    parameters = {key: value for key, value in asdict(options).items() if key not in ("overwrite", "device", "save_as")}
    parameters |= {"gallery": gallery, "exclude_same": list(options.exclude_same), "index": index}
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    if built:
        inputs["index"] = built["fingerprint"]
    draft = run_record("search", parameters=parameters, inputs=inputs, rows=0)
    name = options.save_as or index
    target = ("neighbors", path_name(encoder), path_name(name))
    before = study.run_of(*target)
    if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
        return before, False
    if before and not options.overwrite:
        raise UserError(
            f"neighbors of {encoder} by {name} were searched otherwise ({_changed(before, draft)}); "
            "store these as well with --save-as NAME, or --overwrite to replace them"
        )
    codes = exclusion_codes(study, options.exclude_same)
    roles = _roles(study, vectors, gallery, options, built)
    searcher = ExactSearch(vectors, roles.gallery, codes, options) if graph is None else IndexSearch(
        graph, vectors, roles.gallery, codes, options, covers_all=gallery == built["parameters"]["gallery"]
    )  # fmt: skip
    began = time.monotonic()
    with study.publishing(*target) as out, Progress("search", len(roles.queries), unit="queries") as progress:
        rows = _write(out, searcher, vectors, roles.queries, options.k, progress)
        out.run = draft | {
            "rows": rows,
            "queries": len(roles.queries),
            "queries_not_embedded": roles.queries_asked - len(roles.queries),
            "gallery": len(roles.gallery),
            "gallery_not_embedded": roles.gallery_asked - len(roles.gallery),
            "seconds": round(time.monotonic() - began, 2),
        }
    return out.run, True


def _refuse_nonsense(options: SearchOptions) -> None:
    if not 1 <= options.k <= 10_000:
        raise UserError(f"-k {options.k}; expected 1 to 10,000")
    if options.expansion_search is not None and options.expansion_search < 1:
        raise UserError(f"--expansion-search {options.expansion_search}; expected 1 or more")


def _roles(study: Study, vectors: Vectors, gallery: str, options: SearchOptions, built: dict | None) -> Roles:
    asked = keys_where(study, gallery, role="gallery")["image_key"].to_numpy()
    queries_asked = keys_where(study, options.queries, role="queries")["image_key"].to_numpy()
    gallery_keys, query_keys = vectors.keys(asked), vectors.keys(queries_asked)
    for role, keys, predicate in (("gallery", gallery_keys, gallery), ("queries", query_keys, options.queries)):
        if len(keys) == 0:
            raise UserError(
                f"the {role} is empty: none of the images of {predicate} was embedded by {vectors.encoder}; see failures"
            )
    if built:
        indexed = vectors.keys(
            keys_where(study, built["parameters"]["gallery"], role="gallery")["image_key"].to_numpy()
        )
        outside = len(np.setdiff1d(gallery_keys, indexed, assume_unique=True))
        if outside:
            raise UserError(
                f"--gallery {gallery!r} selects {outside:,} images that the index does not hold "
                f"(it was built with {built['parameters']['gallery']!r}); build one with that gallery, or search exact"
            )
    if options.k > len(gallery_keys):
        raise UserError(
            f"-k {options.k} is larger than the gallery ({len(gallery_keys):,} embedded images); expected -k {len(gallery_keys)} or less"
        )
    return Roles(gallery_keys, query_keys, len(asked), len(queries_asked))


def exclusion_codes(study: Study, columns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending manifest keys (n,) and, for each column, a code (n, c) that is equal where the values are; -1: null.

    Null is no value: two images without a patient are not the same patient.
    """
    connection = connect()
    attach_manifest(connection, study)
    have = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall()]
    for column in columns:
        if column not in have:
            near = nearest(column, have)
            raise UserError(
                f"--exclude-same {column}: no such column in the manifest; {near + '; ' if near else ''}columns: {', '.join(have)}"
            )
    quoted = ['"' + column.replace('"', '""') + '"' for column in columns]
    ranked = "".join(
        f", CASE WHEN {q} IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY {q}) END AS c{i}"
        for i, q in enumerate(quoted)
    )
    table = connection.sql(f"SELECT image_key{ranked} FROM manifest ORDER BY image_key").to_arrow_table()
    codes = [table[f"c{i}"].to_numpy() for i in range(len(columns))]
    empty = np.zeros((table.num_rows, 0), np.int64)
    return table["image_key"].to_numpy(), np.stack(codes, axis=1) if codes else empty


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    for key, value in now["parameters"].items():
        if before["parameters"].get(key) != value:
            return f"{key} {before['parameters'].get(key)} there, {value} now"
    return "the embeddings, the manifest or the index have changed since"


class ExactSearch:
    """Every gallery vector against every query."""

    def __init__(
        self, vectors: Vectors, gallery: np.ndarray, codes: tuple[np.ndarray, np.ndarray], options: SearchOptions
    ) -> None:
        self.vectors, self.gallery, self.codes, self.options = vectors, gallery, codes, options
        self.device = _torch_device(options.device)

    def block(self, keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """keys (n,), queries (n, dim) -> neighbor keys (n, k), distances (n, k), counts (n,)."""
        running = RunningTopK(Block(keys, queries, codes_of(self.codes, keys)), k=self.options.k, device=self.device)
        for tile_keys, tile in self.vectors.tiles(self.gallery):
            running.add(Block(tile_keys, tile, codes_of(self.codes, tile_keys)))
        return running.result()


class IndexSearch:
    """Through a USearch graph; exact over the gallery for the queries that the graph cannot fill.

    Excluded neighbors and those outside the gallery are passed over after the search, so more than k are asked for:
    twice as many as the gallery's share of the index calls for, then four times that. What is still short is searched exactly.
    """

    ROUNDS = (2, 8)

    def __init__(
        self, graph, vectors: Vectors, gallery: np.ndarray, codes, options: SearchOptions, *, covers_all: bool
    ) -> None:
        self.graph, self.gallery, self.codes, self.options = graph, gallery, codes, options
        self.covers_all = covers_all
        self.exact = ExactSearch(vectors, gallery, codes, options)
        self.expansion = options.expansion_search or graph.expansion_search

    def block(self, keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As ExactSearch.block; distances are the index's own, in its dtype."""
        k = self.options.k
        out_keys = np.full((len(keys), k), np.iinfo(np.int64).max, np.int64)
        out_distances = np.full((len(keys), k), np.inf, np.float32)
        counts = np.zeros(len(keys), np.int64)
        pending = np.flatnonzero(
            np.einsum("ij,ij->i", queries, queries) > 0
        )  # a zero vector has no direction to follow
        rest = np.setdiff1d(np.arange(len(keys)), pending)
        share = len(self.gallery) / len(self.graph)
        for factor in self.ROUNDS:
            count = min(
                len(self.graph),
                int(factor * (k + 1) / share) if factor > 2 or share < 1 or self.codes[1].size else k + 1,
            )
            if len(pending) == 0 or count > len(self.graph) // 2 > 4 * k:
                break
            done = self._ask(keys, queries, pending, count, out_keys, out_distances, counts)
            pending = pending[~done]
        rest = np.concatenate([rest, pending])
        if len(rest):
            out_keys[rest], out_distances[rest], counts[rest] = self.exact.block(keys[rest], queries[rest])
        return out_keys, out_distances, counts

    def _ask(self, keys, queries, rows, count, out_keys, out_distances, counts) -> np.ndarray:
        """One round for `rows`: fills their places, returns which of them found k."""
        self.graph.expansion_search = max(self.expansion, count)
        matches = self.graph.search(np.ascontiguousarray(queries[rows]), count)
        found = np.atleast_2d(matches.keys).astype(np.int64)
        distances = np.atleast_2d(matches.distances).astype(np.float32)
        found_counts = np.atleast_1d(matches.counts)
        allowed = np.arange(found.shape[1])[None, :] < found_counts[:, None]  # USearch pads with key 0: trust counts
        allowed &= found != keys[rows][:, None]
        if not self.covers_all:
            allowed &= np.isin(found, self.gallery)
        mine, theirs = codes_of(self.codes, keys[rows]), codes_of(self.codes, found.ravel())
        for c in range(mine.shape[1]):
            same = (theirs[:, c].reshape(found.shape) == mine[:, c][:, None]) & (mine[:, c] >= 0)[:, None]
            allowed &= ~same
        distances = np.where(allowed, np.clip(distances, 0.0, 2.0), np.inf)
        order = np.lexsort((found, distances))[:, : self.options.k]
        width = order.shape[1]
        out_keys[rows, :width] = np.take_along_axis(found, order, 1)
        out_distances[rows, :width] = np.take_along_axis(distances, order, 1)
        counts[rows] = np.minimum(allowed.sum(axis=1), self.options.k)
        return counts[rows] == self.options.k


def codes_of(codes: tuple[np.ndarray, np.ndarray], keys: np.ndarray) -> np.ndarray:
    """Rows (m, c) of the exclusion codes for keys (m,), in their order; unknown keys exclude nothing."""
    known, values = codes
    if values.shape[1] == 0:
        return np.zeros((len(keys), 0), np.int64)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where((known[place] == keys)[:, None], values[place], -1)


def _torch_device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU; expected one; use --device cpu, or see cbmir doctor")
    return asked if asked != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _write(out, searcher, vectors: Vectors, queries: np.ndarray, k: int, progress: Progress) -> int:
    """Search all queries, block by block, and write their neighbors -> rows written."""
    rows, part, held, done = 0, 0, [], 0
    for keys, block in vectors.tiles(queries, rows=QUERY_ROWS):
        held.append(as_table(keys, *searcher.block(keys, block)))
        done += len(keys)
        progress.update(done)
        if sum(table.num_rows for table in held) >= ROWS_PER_FILE:
            rows, part = rows + _flush(out, held, part), part + 1
            held = []
    return rows + _flush(out, held, part)


def _flush(out, held: list[pa.Table], part: int) -> int:
    table = pa.concat_tables(held) if held else NEIGHBORS.empty_table()
    out.write_table(table, f"part-{part:05d}.parquet", "neighbors")
    return table.num_rows


def as_table(queries: np.ndarray, keys: np.ndarray, distances: np.ndarray, counts: np.ndarray) -> pa.Table:
    """Neighbors (n, k) with counts (n,) -> rows of the contract; empty places give no row."""
    filled = np.arange(keys.shape[1])[None, :] < counts[:, None]
    ranks = np.broadcast_to(np.arange(1, keys.shape[1] + 1, dtype=np.int16), keys.shape)
    columns = [np.repeat(queries, counts), keys[filled], ranks[filled], distances[filled]]
    return pa.table([pa.array(c) for c in columns], schema=NEIGHBORS)
