"""Stage: volumes found by their slices, without a vector of the volume, and the slices that match.

STUDY/volumes/neighbors/E/count       count aggregation
STUDY/volumes/neighbors/E/rank        rank aggregation
STUDY/volumes/neighbors/E/late        late interaction, of every volume or of candidates
STUDY/volumes/matched_slices/E/I      of a search's first volumes, the slices that are nearest to the query's
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.exclusions import exclusion_codes, exclusion_inputs
from cbmir.origin import vectors_run
from cbmir.progress import Progress
from cbmir.schemas import MATCHED_SLICES
from cbmir.search import Roles, depth_of, roles_of, write_neighbors
from cbmir.searching.searchers import Codes, ExactSearch, Found, torch_device
from cbmir.store import Study, changed_parameter, path_name, run_record
from cbmir.vectors import Vectors, find_encoder
from cbmir.volumes import refuse_volumes
from cbmir.volumetric.aggregation import aggregated
from cbmir.volumetric.options import MEAN, VolumeSearchOptions
from cbmir.volumetric.place import require_volumes
from cbmir.volumetric.reranking import LateInteraction
from cbmir.volumetric.slices import Slices

MATCHED_RANKS = 10  # of each query, whose slices are matched
MATCHES = 3  # pairs of slices of two volumes


@dataclass(frozen=True)
class _Asked:
    """What all searches of one encoder have in common."""

    slices: Slices
    roles: Roles
    codes: Codes
    k: int
    options: VolumeSearchOptions


def search_volumes(
    study: Study, encoder: str, options: VolumeSearchOptions, *, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Find and store the neighbors of every query volume by each mode -> the run.json of each; what is there and current is left."""
    options.refuse_nonsense()
    refuse_volumes(study)
    encoder = find_encoder(study, encoder)
    volumes = require_volumes(study)
    slices = Slices(volumes, encoder)
    codes = exclusion_codes(volumes, options.exclude_same)
    roles = roles_of(volumes, slices, options.gallery, options.queries)
    asked = _Asked(slices, roles, codes, depth_of(options.k, len(roles.gallery)), options)
    runs = []
    for mode in dict.fromkeys(options.modes):
        run, searched = _search(asked, mode)
        runs.append(run)
        say(
            f"search {mode} of {encoder}: {run['queries']:,} volumes in {run['gallery']:,}{'' if searched else ', already searched'}"
        )
    return runs


def _search(asked: _Asked, mode: str) -> tuple[dict[str, Any], bool]:
    slices, options, roles = asked.slices, asked.options, asked.roles
    volumes, encoder = slices.study, slices.encoder
    candidates = _candidates_of(volumes, encoder) if mode == "late" and options.candidates else None
    draft = _draft(asked, mode, candidates)
    target = ("neighbors", path_name(encoder), mode)
    before = volumes.run_of(*target)
    if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
        return before, False
    changed = changed_parameter(before, draft) if before else None
    if changed and not options.overwrite:
        raise UserError(
            f"neighbors of {encoder} by {mode} were searched otherwise ({changed}); --overwrite to replace them"
        )
    began = time.monotonic()
    with volumes.publishing(*target) as out, Progress(f"search {mode}", len(roles.queries), unit="volumes") as progress:
        rows = write_neighbors(out, _found(asked, mode, candidates), progress.update)
        out.run = (
            draft
            | roles.told(options.exclude_same, options.metric)
            | {
                "rows": rows,
                "by_slices": True,
                "seconds": round(time.monotonic() - began, 2),
            }
        )
    return out.run, True


def _draft(asked: _Asked, mode: str, candidates: Vectors | None) -> dict[str, Any]:
    """run.json of a search, as far as it is known before it."""
    options, volumes = asked.options, asked.slices.study
    parameters = {
        "index": mode, "k": asked.k, "gallery": options.gallery, "queries": options.queries, "exclude_same": list(options.exclude_same),
        "metric": options.metric,
    } | ({"candidates": options.candidates} if mode == "late" else {"neighbors": options.neighbors})  # fmt: skip
    inputs = {"slices": asked.slices.run["fingerprint"], "manifest": volumes.require("manifest")["fingerprint"]}
    inputs |= exclusion_inputs(volumes, options.exclude_same)
    if candidates is not None:
        inputs["candidates"] = candidates.run["fingerprint"]
    return run_record("search", parameters=parameters, inputs=inputs, rows=0)


def _candidates_of(volumes: Study, encoder: str) -> Vectors:
    """The mean vectors, whose neighbors late interaction ranks again."""
    name = f"{encoder}~{MEAN}"
    if name not in volumes.names("embeddings"):
        raise UserError(
            f"late interaction ranks the candidates of {name} again, and {volumes.address} has no such vectors; make them with --reduce {MEAN}, or "
            "compare all volumes with --candidates all"
        )
    return Vectors(volumes, name)


def _found(asked: _Asked, mode: str, candidates: Vectors | None) -> Iterator[tuple[np.ndarray, Found]]:
    slices, options, roles = asked.slices, asked.options, asked.roles
    device = torch_device(options.device)
    if mode != "late":
        how = {"k": asked.k, "neighbors": options.neighbors, "metric": options.metric, "device": device}
        yield from aggregated(slices, roles.gallery, roles.queries, asked.codes, mode, **how)
        return
    late = LateInteraction(slices, roles.gallery, asked.codes, k=asked.k, metric=options.metric, device=device)
    if candidates is None:
        yield from late.all_of(roles.queries)
        return
    deep = min(max(options.candidates, asked.k), len(roles.gallery))
    search = ExactSearch(candidates, roles.gallery, asked.codes, k=deep, metric=options.metric, device=device)
    for keys, tile in candidates.tiles(roles.queries, rows=search.rows):
        order = np.argsort(keys)
        yield from late.among(keys[order], search.block(keys[order], tile[order])[0])


def match_all(study: Study, encoder: str, *, device: str = "auto") -> None:
    """matched_slices of every search of volumes that compared an encoder's slices or vectors made of them; what is current is left."""
    volumes, encoder = require_volumes(study), find_encoder(study, encoder)
    for name in volumes.names("neighbors"):
        if vectors_run(volumes, name)["parameters"].get("source") == encoder:
            there = volumes.names("neighbors", path_name(name))
            for index in (i for i in there if volumes.run_of("neighbors", path_name(name), path_name(i))):
                match_slices(study, encoder, name, index, device=device)


def match_slices(study: Study, encoder: str, vectors: str, index: str, *, device: str = "auto") -> dict[str, Any]:
    """Publish matched_slices of one search of volumes: of each query's first volumes, the pairs of slices that are nearest -> its run.json.

    encoder: whose slices are compared. vectors: the name that was searched, the encoder's own or that of a reduction of it.
    """
    volumes = require_volumes(study)
    slices = Slices(volumes, encoder)
    searched = volumes.require("neighbors", path_name(vectors), path_name(index))
    metric = searched["parameters"]["metric"]
    inputs = {"neighbors": searched["fingerprint"], "slices": slices.run["fingerprint"]}
    draft = run_record(
        "matched_slices",
        parameters={"ranks": MATCHED_RANKS, "matches": MATCHES, "metric": metric},
        inputs=inputs,
        rows=0,
    )
    target = ("matched_slices", path_name(vectors), path_name(index))
    before = volumes.run_of(*target)
    if before and before["fingerprint"] == draft["fingerprint"]:
        return before
    pairs = volumes.dataset("neighbors", path_name(vectors), path_name(index)).to_table()
    first = pairs["rank"].to_numpy() <= MATCHED_RANKS
    query, neighbor, rank = (pairs[name].to_numpy()[first] for name in ("query_key", "neighbor_key", "rank"))
    ranks = dict(zip(zip(query.tolist(), neighbor.tolist(), strict=True), rank.tolist(), strict=True))
    has = np.isin(query, slices.volume) & np.isin(neighbor, slices.volume)
    late = LateInteraction(
        slices,
        np.unique(neighbor),
        (np.zeros(0, np.int64), np.zeros((0, 0), np.int64)),
        k=1,
        metric=metric,
        device=torch_device(device),
    )
    with (
        volumes.publishing(*target) as out,
        Progress("matching slices", len(np.unique(query)), unit="volumes") as progress,
    ):
        rows = 0
        for part, found in enumerate(late.matches(query[has], neighbor[has], most=MATCHES)):
            table = _matched(found, ranks)
            out.write_table(table, f"part-{part:05d}.parquet", "matched_slices")
            rows += table.num_rows
            progress.advance(len({match[0] for match in found}))
        out.run = draft | {"rows": rows}
    return out.run


def _matched(found: list[tuple[int, int, int, int, float]], ranks: dict[tuple[int, int], int]) -> pa.Table:
    """Matches, the nearest of each pair of volumes first -> rows of the contract, by query, rank and match."""
    rows, number = [], {}
    for query, neighbor, mine, theirs, distance in found:
        number[query, neighbor] = number.get((query, neighbor), 0) + 1
        rows.append((query, neighbor, ranks[query, neighbor], number[query, neighbor], mine, theirs, distance))
    rows.sort(key=lambda row: (row[0], row[2], row[3]))
    columns = zip(*rows, strict=True) if rows else [[]] * len(MATCHED_SLICES)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, MATCHED_SLICES, strict=True)],
        schema=MATCHED_SLICES,
    )
