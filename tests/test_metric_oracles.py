"""Every metric against somebody else's code: trec_eval through ir_measures, scikit-learn, or plain Python written from the definitions in the papers.

Rankings are drawn: short and empty ones, all or nothing relevant, several labels or none, failed queries, images passed over, galleries smaller than k.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Rprec, Success, nDCG
from sklearn.metrics import average_precision_score, ndcg_score

from cbmir.evaluating.options import LEVELS, judges
from cbmir.schemas import image_key
from cbmir.sql_files import names
from tests.rankings import add_neighbors, laid_out, values

KS = (1, 2, 3, 5, 10)
TREC = {
    "precision_at_k": lambda k: P @ k,
    "recall_at_k": lambda k: R @ k,
    "hit_rate_at_k": lambda k: Success @ k,
    "ndcg_at_k": lambda k: nDCG @ k,
    "reciprocal_rank": lambda k: RR,
    "average_precision": lambda k: AP,
    "r_precision": lambda k: Rprec,
}
ONCE = ("reciprocal_rank", "average_precision", "r_precision")  # over all neighbors: not asked at a k


@dataclass(frozen=True)
class Drawn:
    """rows: as `laid_out` takes them, with the patient's `code` or None; ranked: query -> gallery images that were found."""

    rows: list[dict]
    ranked: dict[str, list[str]]

    def laid_out(self, relevance: str):
        codes = [(row["image_id"], row["code"]) for row in self.rows if row["code"] is not None]
        rows = [{name: value for name, value in row.items() if name != "code"} for row in self.rows]
        return laid_out(rows, self.ranked, relevance=relevance, exclusions=codes)


@st.composite
def collections(draw) -> Drawn:
    most = draw(st.sampled_from([1, 3]))
    image = st.fixed_dictionaries(
        {
            "labels": st.lists(st.sampled_from("ABC"), max_size=most, unique=True),
            "modality": st.sampled_from(["XR", "CT", "unknown"]),
            "region": st.sampled_from(["chest", "chest", "hand", "unknown"]),
            "embedded": st.sampled_from([True, True, True, False]),
            "code": st.sampled_from([None, None, 0, 1]),
        }
    )
    gallery = draw(st.lists(image, max_size=8))
    queries = draw(st.lists(image, min_size=1, max_size=5))
    rows = [row | {"image_id": f"g{i}", "split": "train"} for i, row in enumerate(gallery)]
    rows += [row | {"image_id": f"q{i}", "split": "test"} for i, row in enumerate(queries)]
    ranked = {}
    for query in rows[len(gallery) :]:
        there = [row["image_id"] for row in may_be_found(query, rows)]
        order = draw(st.permutations(there))
        depth = draw(st.sampled_from([len(order), len(order), len(order) // 2, 0]))
        ranked[query["image_id"]] = order[:depth] if query["embedded"] else []
    return Drawn(rows, ranked)


def may_be_found(query: dict, rows: list[dict]) -> list[dict]:
    """The embedded gallery without what is of the query's patient."""
    return [
        row
        for row in rows
        if row["split"] == "train" and row["embedded"] and (query["code"] is None or row["code"] != query["code"])
    ]


def classes(row: dict, level: str) -> set[str]:
    """The classes by which an image is judged, from the words of the levels alone."""
    if level == "modality_region":
        both = (row["modality"], row["region"])
        return set() if "unknown" in both else {"/".join(both)}
    return set(row["labels"]) if level.startswith("label") else {row[level]} - {"unknown"}


@dataclass(frozen=True)
class Asked:
    """One query as it is judged: gains (Jaccard) of the ranked images in their order, and of those that it could have found but did not."""

    name: str
    classes: set[str]
    found: list[float]
    missed: list[float]
    found_classes: list[set[str]]

    @property
    def relevant(self) -> int:
        return sum(gain > 0 for gain in self.found + self.missed)

    @property
    def hits(self) -> list[bool]:
        return [gain > 0 for gain in self.found]


def judged(drawn: Drawn, level: str) -> list[Asked]:
    by_name = {row["image_id"]: row for row in drawn.rows}
    asked = []
    for name, ranked in drawn.ranked.items():
        query = by_name[name]
        mine = classes(query, level)
        if not mine or (level == "label_in_region" and query["region"] == "unknown"):
            continue
        pool = may_be_found(query, drawn.rows)
        if level == "label_in_region":
            pool = [row for row in pool if row["region"] == query["region"]]
        gains = {row["image_id"]: jaccard(mine, classes(row, level)) for row in pool}
        ranked = [image for image in ranked if image in gains]
        asked.append(
            Asked(name, mine, [gains[image] for image in ranked], [gains[image] for image in gains if image not in ranked],
                  [classes(by_name[image], level) for image in ranked])
        )  # fmt: skip
    return asked


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def trec(asked: list[Asked], metric: str, k: int) -> dict[str, float]:
    """trec_eval's value of each query."""
    qrels, run = [], []
    for query in asked:
        gains = [*query.found, *query.missed, 0.0]  # the last: trec_eval leaves out queries without a judged image
        qrels += [ir_measures.Qrel(query.name, f"d{i}", int(gain > 0)) for i, gain in enumerate(gains)]
        run += [ir_measures.ScoredDoc(query.name, f"d{i}", -float(i)) for i in range(len(query.found))]
    measure = TREC[metric](k)
    return {each.query_id: each.value for each in ir_measures.iter_calc([measure], qrels, run)}


def graded_ndcg(query: Asked, k: int) -> float:
    """scikit-learn's, which ranks every image: those that were not found stand behind k images without gain, where no cut sees them."""
    gains = np.array([[*query.found, *[0.0] * (k + 1), *query.missed]])
    return ndcg_score(gains, -np.arange(gains.size, dtype=float)[None], k=k, ignore_ties=True)


def denner_precision(query: Asked, k: int) -> float:
    """Denner et al. 2024: n = min(N, images of the class in the index); hits among the first n, divided by n."""
    n = min(k, query.relevant)
    return sum(query.hits[:n]) / n if n else 0.0


def mahbod_average_precision(query: Asked, k: int) -> float:
    """Mahbod et al. 2024: mean of the precision at each hit, divided by the hits found."""
    precisions = [sum(query.hits[: i + 1]) / (i + 1) for i, hit in enumerate(query.hits[:k]) if hit]
    return sum(precisions) / len(precisions) if precisions else 0.0


def mahbod_majority_vote(query: Asked, k: int) -> float:
    """Mahbod et al. 2024: 1 if the true label is among those tied for the most votes."""
    votes = Counter(label for labels in query.found_classes[:k] for label in labels)
    most = max(votes.values(), default=0)
    return float(any(votes[label] == most for label in query.classes if votes[label]))


def mean_overlap(query: Asked, k: int) -> float:
    return sum(query.found[:k]) / k


OURS = {
    "ndcg_overlap_at_k": graded_ndcg,
    "precision_at_k_capped": denner_precision,
    "average_precision_over_hits_at_k": mahbod_average_precision,
    "majority_vote_at_k": mahbod_majority_vote,
    "overlap_at_k": mean_overlap,
}
WITHOUT_RELEVANCE = {"ann_recall", "duplicates_at_k"}


def test_every_metric_has_an_oracle():
    assert {*TREC, *OURS, *WITHOUT_RELEVANCE} == set(names("metrics"))
    assert {name for name in names("metrics") if not judges(name)} == WITHOUT_RELEVANCE


def alike(rows: int, *, found: int, label: str) -> Drawn:
    """One query for A in a gallery of `rows` images with one label."""
    plain = {"modality": "XR", "region": "chest", "embedded": True, "code": None}
    gallery = [plain | {"image_id": f"g{i}", "split": "train", "labels": [label]} for i in range(rows)]
    query = plain | {"image_id": "q0", "split": "test", "labels": ["A"]}
    return Drawn([*gallery, query], {"q0": [f"g{i}" for i in range(found)]})


# A layout takes a tenth of a second: few examples, each with several queries, all metrics and all k.
THRIFTY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("level", LEVELS)
@THRIFTY
@given(collections())
@example(alike(6, found=6, label="A"))  # all relevant
@example(alike(6, found=6, label="B"))  # no relevant image in the gallery
@example(alike(6, found=0, label="A"))  # nothing found
@example(alike(2, found=2, label="A"))  # a gallery smaller than k
@example(alike(0, found=0, label="A"))  # no gallery
def test_metrics_are_those_of_independent_code(level, drawn):
    asked = judged(drawn, level)
    connection = drawn.laid_out(level)
    for metric in (*TREC, *OURS):
        for k in (None,) if metric in ONCE else KS:
            found = values(connection, "metrics", metric, k=k)
            if metric in TREC:
                theirs = trec(asked, metric, k)
            else:
                theirs = {query.name: OURS[metric](query, k) for query in asked}
            assert found == pytest.approx({image_key(name): value for name, value in theirs.items()}, abs=1e-9), metric


@pytest.mark.parametrize("level", LEVELS)
@settings(THRIFTY, max_examples=15)
@given(collections())
@example(alike(6, found=6, label="A"))
def test_average_precision_is_that_of_scikit_learn_where_every_candidate_is_ranked(level, drawn):
    found = values(drawn.laid_out(level), "metrics", "average_precision")
    for query in judged(drawn, level):
        if query.relevant and not query.missed:
            theirs = average_precision_score(query.hits, -np.arange(len(query.hits), dtype=float))
            assert found[image_key(query.name)] == pytest.approx(theirs, abs=1e-9)


@THRIFTY
@given(collections(), st.data())
def test_ann_recall_and_duplicates(drawn, data):
    """Plain sets: what both lists share of the exact one; and copies by a code that some images have."""
    rows = {row["image_id"]: row for row in drawn.rows}
    exact, lost = drawn.ranked, {}
    for query, ranked in exact.items():
        keep = data.draw(st.lists(st.booleans(), min_size=len(ranked), max_size=len(ranked)))
        lost[query] = [image for image, kept in zip(ranked, keep, strict=True) if kept]
    copies = {name: data.draw(st.sampled_from([None, 1, 2])) for name in rows}
    connection = Drawn(drawn.rows, lost).laid_out("")
    add_neighbors(connection, "exact_neighbors", exact)
    codes = [f"({image_key(name)}, {code})" for name, code in copies.items() if code is not None]
    connection.execute("CREATE TEMP TABLE duplicates (image_key BIGINT, code BIGINT)")
    if codes:
        connection.execute(f"INSERT INTO duplicates VALUES {', '.join(codes)}")
    for k in KS:
        recall = {
            image_key(query): len(set(exact[query][:k]) & set(lost[query][:k])) / len(exact[query][:k])
            for query in exact
            if exact[query]
        }
        assert values(connection, "metrics", "ann_recall", k=k) == pytest.approx(recall, abs=1e-12)
        same = {
            image_key(query): sum(copies[query] is not None and copies[image] == copies[query] for image in found[:k])
            / k
            for query, found in lost.items()
            if rows[query]["embedded"]
        }
        assert values(connection, "metrics", "duplicates_at_k", k=k) == pytest.approx(same, abs=1e-12)
