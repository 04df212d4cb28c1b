"""Which search of the validation split stands beside each search of the test split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from cbmir.classifying.knn import TEST, VAL, Search, classify_by_neighbors
from cbmir.commands import line
from cbmir.schemas import CLASSIFICATION
from cbmir.select import attach_manifest, connect, select_where
from cbmir.store import Study

_ALIKE = ("index", "gallery", "exclude_same", "metric", "expansion_search", "rerank")  # parameters that a pair shares
_FLAGS = {"metric": "--metric", "expansion_search": "--expansion-search", "rerank": "--rerank"}


def knn_figures(study: Study, searches: Sequence[Search]) -> tuple[pa.Table, list[str]]:
    """Every search with test queries, and the one of the validation queries beside it -> (rows of `classification`, lines for people).

    Two searches are a pair if they have one encoder, index, gallery, exclusions, metric and effort; which images they asked for is looked up in
    the manifest, however the predicate was written. A line tells of each test search that has no partner what to run, where there are images of val.
    """
    tables, lines = [CLASSIFICATION.empty_table()], []
    for test, val, what_to_run in searches_of_test(study, searches):
        if val is None:
            lines += [what_to_run] if _has_val(study) else []
            continue
        table = classify_by_neighbors(study, val=val, test=test)
        if table is None:
            lines.append(
                f"no kNN classification of {test.encoder} by {test.index}: no image of split val, or none of split test, has a label"
            )
        else:
            tables.append(table)
    return pa.concat_tables(tables), lines


def searches_of_test(study: Study, searches: Sequence[Search]) -> Iterator[tuple[Search, Search | None, str]]:
    """(search with queries of split test, the one of split val beside it, '') or (search, None, what to run).

    Volumes that are found by their slices are left out: there is one search of a mode, and none of val beside it.
    """
    searches = [search for search in searches if not search.run.get("by_slices")]
    splits = _splits(study, searches)
    for test in searches:
        if TEST in splits[test.run["parameters"]["queries"]]:
            val = _partner(test, [s for s in searches if VAL in splits[s.run["parameters"]["queries"]]])
            yield test, val, "" if val else _what_to_run(study, test)


def _splits(study: Study, searches: Sequence[Search]) -> dict[str, set[str]]:
    """Predicate of queries -> the splits of the images that it selects."""
    connection = connect()
    attach_manifest(connection, study)
    predicates = {search.run["parameters"]["queries"] for search in searches}
    return {p: set(select_where(connection, p, "split", role="queries")["split"].to_pylist()) for p in predicates}


def _partner(test: Search, candidates: Sequence[Search]) -> Search | None:
    """The validation search beside a test search: of several the one of its depth, or the deepest, then the first by name."""
    alike = [s for s in candidates if s.encoder == test.encoder and _parameters(s) == _parameters(test)]
    depth = test.run["parameters"]["k"]
    return min(
        alike, key=lambda s: (-min(depth, s.run["parameters"]["k"]), s.index != test.index, s.index), default=None
    )


def _parameters(search: Search) -> list:
    return [search.run["parameters"][name] for name in _ALIKE]


def _what_to_run(study: Study, test: Search) -> str:
    """'no kNN classification of E by I: ...; make it with: cbmir search ...'."""
    said = f"no kNN classification of {test.encoder} by {test.index}: "
    if not _has_val(study):
        return f"{said}k is chosen on the split val, of which the manifest has no image"
    asked = test.run["parameters"]
    command = ["cbmir", "search", "--study", study.address, "--encoder", test.encoder, "--index", asked["index"]]
    command += ["--queries", "split = 'val'", "-k", str(asked["k"]), "--gallery", asked["gallery"]]
    for name, flag in _FLAGS.items():
        if asked[name] is not None:
            command += [flag, str(asked[name])]
    for column in asked["exclude_same"]:
        command += ["--exclude-same", column]
    command += ["--save-as", f"{test.index}-val"]
    return f"{said}k is chosen on a search of the split val, which is not there; make it with: {line(command)}"


def _has_val(study: Study) -> bool:
    connection = connect()
    attach_manifest(connection, study)
    return bool(connection.execute("SELECT count(*) FROM manifest WHERE split = 'val'").fetchall()[0][0])
