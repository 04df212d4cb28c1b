"""Every metric against somebody else's code: trec_eval through ir_measures, scikit-learn, or plain Python written from the definitions in the papers.

Rankings are drawn: short and empty ones, all or nothing relevant, several labels or none, failed queries, images passed over, galleries smaller than k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cbmir.evaluating.options import LEVELS, judges
from cbmir.schemas import image_key
from cbmir.sql_files import names
from tests.oracles import CHANCE, OURS, TREC, judged, may_be_found, trec
from tests.rankings import add_neighbors, laid_out, values

KS = (1, 2, 3, 5, 10)
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
THRIFTY = settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("level", LEVELS)
@THRIFTY
@given(collections())
@example(alike(6, found=6, label="A"))  # all relevant
@example(alike(6, found=6, label="B"))  # no relevant image in the gallery
@example(alike(6, found=0, label="A"))  # nothing found
@example(alike(2, found=2, label="A"))  # a gallery smaller than k
@example(alike(0, found=0, label="A"))  # no gallery
def test_metrics_and_their_chance_are_those_of_independent_code(level, drawn):
    asked = judged(drawn.rows, drawn.ranked, level)
    connection = drawn.laid_out(level)
    for metric in (*TREC, *OURS):
        for k in (None,) if metric in ONCE else KS:
            found = values(connection, "metrics", metric, k=k)
            if metric in TREC:
                theirs = trec(asked, metric, k)
            else:
                theirs = {query.name: OURS[metric](query, k) for query in asked}
            assert found == pytest.approx({image_key(name): value for name, value in theirs.items()}, abs=1e-9), metric
            if metric in CHANCE:
                depth = 5
                chance = {image_key(q.name): CHANCE[metric](q, k or depth) if q.relevant else 0 for q in asked}
                assert values(connection, "chance", metric, k=k, depth=depth) == pytest.approx(chance, abs=1e-9), metric


@pytest.mark.parametrize("level", LEVELS)
@settings(THRIFTY, max_examples=10)
@given(collections())
@example(alike(6, found=6, label="A"))
def test_average_precision_is_that_of_scikit_learn_where_every_candidate_is_ranked(level, drawn):
    found = values(drawn.laid_out(level), "metrics", "average_precision")
    for query in judged(drawn.rows, drawn.ranked, level):
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
        candidates = {image_key(q): may_be_found(rows[q], drawn.rows) for q in lost if rows[q]["embedded"]}
        places = {key: min(k, len(there)) for key, there in candidates.items()}
        recalled = {key: places[key] / max(1, len(there)) for key, there in candidates.items()}
        assert values(connection, "chance", "ann_recall", k=k) == pytest.approx(recalled, abs=1e-12)
        own = {image_key(name): code for name, code in copies.items()}
        copied = {
            key: sum(own[key] is not None and copies[row["image_id"]] == own[key] for row in there)
            / max(1, len(there))
            * places[key]
            / k
            for key, there in candidates.items()
        }
        assert values(connection, "chance", "duplicates_at_k", k=k) == pytest.approx(copied, abs=1e-12)
