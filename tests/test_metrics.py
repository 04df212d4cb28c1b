"""Every file of sql/metrics against a hand-worked case, and every file of sql/chance against all orders that the candidates can come in."""

import csv
import itertools
from math import log2
from pathlib import Path

import numpy as np
import pytest

from cbmir.evaluating.options import judges, takes_k
from cbmir.schemas import image_key
from cbmir.sql_files import names
from tests.rankings import add_neighbors, laid_out, values

CASES = Path(__file__).with_name("cases")


def read_csv(name: str) -> list[dict[str, str]]:
    with (CASES / name).open(newline="") as file:
        return list(csv.DictReader(file))


def hand_made(metric: str):
    """The hand-made collection, staged for one metric."""
    rows = [
        {
            "image_id": r["image_id"],
            "split": r["split"],
            "labels": [x for x in r["labels"].split(";") if x],
            "embedded": r["embedded"] == "1",
        }
        for r in read_csv("manifest.csv")
    ]
    neighbors = {r["query"]: r["neighbors"].split() for r in read_csv("neighbors.csv")}
    connection = laid_out(rows, neighbors, relevance="label" if judges(metric) else "")
    add_neighbors(
        connection, "exact_neighbors", {r["query"]: r["neighbors"].split() for r in read_csv("exact_neighbors.csv")}
    )
    codes = ", ".join(f"({image_key(r['image_id'])}, {r['code']})" for r in read_csv("duplicates.csv"))
    connection.execute(f"CREATE TEMP TABLE duplicates AS FROM (VALUES {codes}) AS t(image_key, code)")
    return connection


@pytest.mark.parametrize("metric", names("metrics"))
def test_a_metric_is_what_was_worked_out_by_hand(metric):
    connection = hand_made(metric)
    expected = read_csv(f"expected/{metric}.csv")
    assert expected
    for row in expected:
        k = int(row["k"]) if row["k"] else None
        worked = eval(row["value"], {"log2": log2})
        assert values(connection, "metrics", metric, k=k)[image_key(row["query"])] == pytest.approx(
            worked, abs=1e-12
        ), row


@pytest.mark.parametrize("metric", names("metrics"))
def test_one_value_a_query_and_one_chance(metric):
    """No query vanishes: not the one that found nothing, nor the one that nothing answers, nor the one that was not embedded."""
    connection = hand_made(metric)
    asked = {key for (key,) in connection.execute("SELECT query_key FROM queries").fetchall()}
    assert len(asked) == (5 if judges(metric) else 4)
    for k in (1, 3, 4) if takes_k(metric) else (None,):
        found, chance = values(connection, "metrics", metric, k=k), values(connection, "chance", metric, k=k, depth=4)
        assert found.keys() == chance.keys() == asked
        assert all(0 <= value <= 1 for value in found.values())
        assert all(value is None or 0 <= value <= 1 for value in chance.values())


def test_every_metric_has_its_chance_and_its_hand_worked_case():
    assert names("metrics") == names("chance") == sorted(path.stem for path in (CASES / "expected").glob("*.csv"))


SINGLE = [["A"], ["A"], ["B"], ["B"], ["C"], []]
SEVERAL = [["A"], ["A", "B"], ["B"], ["A", "B", "C"], ["C"], []]
DEPTH = 4


@pytest.mark.parametrize("metric", [name for name in names("metrics") if judges(name)])
@pytest.mark.parametrize("gallery", [SINGLE, SEVERAL], ids=["one-label", "several-labels"])
def test_chance_is_the_mean_over_all_orders(metric, gallery):
    """360 queries of each label, one for each order in which four of six images can come."""
    rows = [{"image_id": f"g{i}", "split": "train", "labels": labels} for i, labels in enumerate(gallery)]
    asked = [["A"], ["B"], ["C"], ["D"]] if gallery is SINGLE else [["A"], ["A", "B"], ["C"], ["D", "C"], ["D"]]
    orders = list(itertools.permutations([f"g{i}" for i in range(6)], DEPTH))
    neighbors = {}
    for labels in asked:
        for n, order in enumerate(orders):
            name = f"q{''.join(labels)}{n}"
            rows.append({"image_id": name, "split": "test", "labels": labels})
            neighbors[name] = order
    connection = laid_out(rows, neighbors)
    for k in (1, 2, 3, 4) if takes_k(metric) else (None,):
        found, chance = (
            values(connection, "metrics", metric, k=k),
            values(connection, "chance", metric, k=k, depth=DEPTH),
        )
        for labels in asked:
            keys = [image_key(f"q{''.join(labels)}{n}") for n in range(len(orders))]
            expected = {chance[key] for key in keys}
            assert len(expected) == 1
            if metric == "majority_vote_at_k" and gallery is SEVERAL:
                assert expected == {None}
            else:
                assert expected.pop() == pytest.approx(np.mean([found[key] for key in keys]), abs=1e-12), (labels, k)


@pytest.mark.parametrize(
    "metric", ["precision_at_k", "precision_at_k_capped", "recall_at_k", "hit_rate_at_k", "ndcg_at_k", "overlap_at_k"]
)
def test_chance_where_the_gallery_is_smaller_than_k(metric):
    """Three candidates, k = 5: every image is found, whatever the order."""
    rows = [{"image_id": f"g{i}", "split": "train", "labels": [label]} for i, label in enumerate("AAB")]
    orders = list(itertools.permutations(["g0", "g1", "g2"]))
    rows += [{"image_id": f"q{n}", "split": "test", "labels": ["A"]} for n in range(len(orders))]
    connection = laid_out(rows, {f"q{n}": order for n, order in enumerate(orders)})
    found, chance = values(connection, "metrics", metric, k=5), values(connection, "chance", metric, k=5)
    assert chance[image_key("q0")] == pytest.approx(np.mean(list(found.values())), abs=1e-12)


def test_images_that_a_search_passes_over_are_no_candidates():
    """Of three images of A, one is of the query's own patient: two are left to be found, of three candidates."""
    rows = [{"image_id": f"g{i}", "split": "train", "labels": [label]} for i, label in enumerate("AAAB")]
    rows.append({"image_id": "q", "split": "test", "labels": ["A"]})
    connection = laid_out(rows, {"q": ["g1", "g3", "g2"]}, exclusions=[("q", 1), ("g0", 1)])
    assert connection.execute("SELECT n_candidates, n_relevant FROM candidates").fetchall() == [(3, 2)]
    assert values(connection, "metrics", "recall_at_k", k=1) == {image_key("q"): 1 / 2}
    assert values(connection, "chance", "precision_at_k", k=1) == {image_key("q"): pytest.approx(2 / 3)}
    assert values(connection, "metrics", "average_precision") == {image_key("q"): pytest.approx((1 + 2 / 3) / 2)}


LEVELS = [
    # level, relevant among g_xr_chest_A, g_ct_chest_A, g_xr_hand_A, g_xr_chest_B (in this order) for an XR chest query of label A
    ("label", [1, 1, 1, 0]),
    ("region", [1, 1, 0, 1]),
    ("modality", [1, 0, 1, 1]),
    ("modality_region", [1, 0, 0, 1]),
    ("label_in_region", [1, 1, 0]),  # the hand is of another region: no candidate, and no neighbor
]


@pytest.mark.parametrize("level, relevant", LEVELS)
def test_levels_of_relevance(level, relevant):
    rows = [
        {"image_id": "g0", "split": "train", "labels": ["A"]},
        {"image_id": "g1", "split": "train", "labels": ["A"], "modality": "CT"},
        {"image_id": "g2", "split": "train", "labels": ["A"], "region": "hand"},
        {"image_id": "g3", "split": "train", "labels": ["B"]},
        {"image_id": "q", "split": "test", "labels": ["A"]},
    ]
    connection = laid_out(rows, {"q": ["g0", "g1", "g2", "g3"]}, relevance=level)
    hits = connection.execute("SELECT rank, is_relevant::INT FROM hits ORDER BY rank").fetchall()
    assert hits == list(enumerate(relevant, 1))
    assert connection.execute("SELECT n_candidates, n_relevant FROM candidates").fetchall() == [
        (len(relevant), sum(relevant))
    ]


@pytest.mark.parametrize("level", ["region", "modality", "modality_region", "label_in_region"])
def test_what_is_unknown_cannot_be_judged(level):
    unknown = {"region": "unknown", "modality": "unknown"}
    rows = [
        {"image_id": "g0", "split": "train", "labels": ["A"]} | unknown,
        {"image_id": "g1", "split": "train", "labels": ["A"]},
        {"image_id": "q", "split": "test", "labels": ["A"]} | unknown,
        {"image_id": "r", "split": "test", "labels": ["A"]},
    ]
    connection = laid_out(rows, {"q": ["g0", "g1"], "r": ["g0", "g1"]}, relevance=level)
    assert connection.execute("SELECT query_key FROM queries").fetchall() == [(image_key("r"),)]
    rank = 1 if level == "label_in_region" else 2
    assert connection.execute("SELECT rank FROM hits WHERE is_relevant").fetchall() == [(rank,)]
