"""Queries with the images they found, as pictures inside the page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from cbmir.report.pictures import Pictures, thumbnail, thumbnails
from cbmir.report.places import bare, veiled
from cbmir.report.sources import Sources
from cbmir.select import attach
from cbmir.sql_files import create
from cbmir.store import path_name

SHOWN = 8  # neighbors a query
VOTES = 6  # labels of a vote, on the page of a query
QUERY_SIDE = 320  # of the image that a person asks with
_RANGE = re.compile(r"(.+)(#[^#/]*=\d+-\d+/\d+[^#/]*)")  # every nth slice of a file: its '/' is no folder's
MOST_BYTES = 10_000_000  # of pictures in the gallery, as text of the page


def cases(
    sources: Sources, search: dict[str, Any], *, relevance: str, n: int, seed: int
) -> tuple[list[dict[str, Any]], int]:
    """(Queries of one search with their first SHOWN neighbors, each right or wrong, and thumbnails of all; how many were chosen).

    In the order in which they are wanted, each with the `bytes` of its pictures; those that would bring these beyond MOST_BYTES are left out.
    """
    _stage(sources, search, relevance)
    chosen = sources.table("chosen", "gallery_queries", n=n, seed=seed)
    neighbors: dict[int, list[dict[str, Any]]] = {row["query_key"]: [] for row in chosen}
    for row in sources.rows("gallery_neighbors"):
        neighbors[row["query_key"]].append(row)
    matched = _matched(sources, search)
    neighbors = {key: [_with_match(row, matched) for row in rows] for key, rows in neighbors.items()}
    pictures = thumbnails(_addresses(chosen, neighbors))
    found: list[dict[str, Any]] = []
    room = MOST_BYTES
    for query in chosen:
        shared = set(query["labels"])
        rows = [_tile(row, pictures, shared=shared) for row in neighbors[query["query_key"]]]
        case = _tile(query, pictures) | {"neighbors": rows}
        shown = [tile["picture"] for tile in (case, *rows)] + [
            row["match"]["picture"] for row in rows if row.get("match")
        ]
        case["bytes"] = sum(len(picture or "") for picture in shown)
        room -= case["bytes"]
        if room < 0:
            break
        found.append(case)
    return found, len(chosen)


def _matched(sources: Sources, search: dict[str, Any]) -> dict[tuple[int, int], dict[str, Any]]:
    """(query, rank) -> the pair of slices that are nearest, where the search found volumes and their slices were matched."""
    parts = ("matched_slices", path_name(search["encoder"]), path_name(search["index"]))
    run, searched = sources.study.run_of(*parts), sources.neighbors_runs[search["encoder"], search["index"]]
    if run is None or run["inputs"]["neighbors"] != searched["fingerprint"]:
        return {}
    attach(sources.connection, "matched_slices", sources.study, sources.study.files(*parts))
    source = sources.embeddings_runs[search["encoder"]]["parameters"]["source"]
    attach(sources.connection, "slices", sources.study, sources.study.files("slices", f"encoder={path_name(source)}"))
    return {(row["query_key"], row["rank"]): row for row in sources.rows("gallery_matches")}


def _with_match(row: dict[str, Any], matched: dict[tuple[int, int], dict[str, Any]]) -> dict[str, Any]:
    """A neighbor that is a volume: its picture is its slice that is nearest to one of the query's, which stands beside it."""
    match = matched.get((row["query_key"], row["rank"]))
    return row if match is None else row | {"uri": match["neighbor_uri"], "match": match}


def _addresses(chosen: list[dict[str, Any]], neighbors: dict[int, list[dict[str, Any]]]) -> Iterator[str | None]:
    """Of all pictures of the cases."""
    for query in chosen:
        yield query["uri"]
        for row in neighbors[query["query_key"]]:
            yield row["uri"]
            if "match" in row:
                yield row["match"]["query_uri"]


def shelves(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Cases -> {groups: [{label, cases}] by label, classes: [(class, how many cases have it)], right, wrong}; a case knows its `places` in classes."""
    counts: dict[str, int] = {}
    for case in found:
        for name in case["classes"]:
            counts[name] = counts.get(name, 0) + 1
    classes = sorted(counts)
    places = {name: place for place, name in enumerate(classes)}
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in sorted(found, key=lambda case: (case["label"], case["place_in_turn"])):
        shown = case | {"places": " ".join(str(places[name]) for name in sorted(case["classes"]))}
        groups.setdefault(case["label"], []).append(shown)
    right = sum(case["is_right"] for case in found)
    return {
        "groups": [{"label": label, "cases": cases} for label, cases in groups.items()],
        "classes": [(name, counts[name]) for name in classes],
        "right": right,
        "wrong": len(found) - right,
    }


def _stage(sources: Sources, search: dict[str, Any], relevance: str) -> None:
    """Tables neighbors (the shown ranks), queries, gallery, hits: right and wrong are decided by sql/staging alone."""
    study, connection = sources.study, sources.connection
    parts = ("neighbors", path_name(search["encoder"]), path_name(search["index"]))
    attach(connection, "all_neighbors", study, study.files(*parts))
    statements = {
        "neighbors": f"SELECT * FROM all_neighbors WHERE rank <= {SHOWN}",
        "query_keys": "SELECT DISTINCT query_key AS image_key FROM neighbors",
        "gallery_keys": "SELECT DISTINCT neighbor_key AS image_key FROM neighbors",
        "embedded": "SELECT image_key FROM query_keys UNION SELECT image_key FROM gallery_keys",
    }
    for table, text in statements.items():
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {text}")
    for table in ("kinds", "asked", "held", "pairs", "judged", "queries", "sets", "matches"):
        create(connection, table, "staging", table, relevance=relevance)
    connection.table("pairs").create_view("ranked", replace=True)
    create(connection, "hits", "staging", "hits")


def _tile(row: dict[str, Any], pictures: Pictures, *, shared: set[str] | None = None) -> dict[str, Any]:
    tile = row | words(row, shared) | {"picture": pictures[row["uri"]]}
    if "match" in row:
        tile["match"] = row["match"] | {"picture": pictures[row["match"]["query_uri"]]}
    return tile


def words(row: dict[str, Any], shared: set[str] | None) -> dict[str, Any]:
    """image_id and labels as people read them: findings apart from modality and region; `shared` labels stand out."""
    modality, region = row.get("modality") or "", row.get("region") or ""
    prefix = f"{modality}/{region}/"
    labels = row.get("labels") or []
    findings = [{"text": t.removeprefix(prefix), "shared": shared is None or t in shared} for t in labels]
    place = " · ".join(word for word in (modality, region) if word and word != "unknown")
    return {"image_id": bare(str(row.get("image_id") or "")), "findings": findings, "place": place}


def answers(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of single queries -> what their page shows."""
    pictures = thumbnails(row.get("uri") for result in results for row in result["neighbors"])
    found = []
    for result in results:
        rows = [_tile({"uri": None, "distance": None} | row, pictures) for row in result["neighbors"]]
        found.append(answer_words(result) | {"neighbors": rows})
    return found


def answer_words(result: dict[str, Any]) -> dict[str, Any]:
    """{name, picture, error, votes} of what was asked with."""
    return {
        "name": _name(str(result["image"])),
        "picture": thumbnail(result.get("uri"), side=QUERY_SIDE),
        "error": veiled(result.get("error") or ""),
        "votes": [_vote(entry) for entry in result.get("votes", [])],
    }


def _name(asked: str) -> str:
    """What was asked with, less its folders: '/data/brain.nii.gz#axis=2&slice=20-40/2' -> 'brain.nii.gz#axis=2&slice=20-40/2'."""
    found = _RANGE.fullmatch(asked)
    place, part = found.groups() if found else (asked, "")
    return (os.path.basename(place.rstrip("/")) or place) + part


def _vote(entry: dict[str, Any]) -> dict[str, Any]:
    """{label, neighbors, share} with the label as people read it: the finding apart from modality and region; None: no label."""
    modality, region, finding = [*(entry["label"] or "").split("/", 2), "", ""][:3]
    if not finding:
        modality, region, finding = "", "", entry["label"]
    return entry | {"finding": finding, "place": " · ".join(filter(None, (modality, region)))}
