"""Volumes found by their slices, against triple loops."""

import numpy as np
import pytest

from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.searches import find_searches
from cbmir.search import SearchOptions, search
from cbmir.store import path_name
from cbmir.volume_search import MATCHED_RANKS, match_slices, search_volumes
from cbmir.volumes import make_volumes
from cbmir.volumetric import reranking
from cbmir.volumetric.options import ReductionOptions, VolumeSearchOptions
from tests.studies import make_study
from tests.volumes_by_hand import ENCODER, distance, drawn, late_by_loops, present, slice_rows, votes_by_loops

pytestmark = pytest.mark.usefixtures("ray_session")


def silent(line):
    pass


def with_volumes(root, **how):
    study, known = drawn(root, **how)
    volumes, _ = make_volumes(study, [ENCODER], ReductionOptions(("mean",)), say=silent)
    return study, volumes, known


def found_by(volumes, index, encoder=ENCODER):
    found = {}
    table = (
        volumes.dataset("neighbors", path_name(encoder), index)
        .to_table()
        .sort_by([("query_key", "ascending"), ("rank", "ascending")])
    )
    for row in table.to_pylist():
        found.setdefault(row["query_key"], []).append((row["distance"], row["neighbor_key"]))
        assert row["rank"] == len(found[row["query_key"]])
    return found


def same(found, expected, *, k):
    assert set(found) == set(expected)
    for query, ranked in expected.items():
        assert [volume for _, volume in found[query]] == [volume for _, volume in ranked[:k]]
        np.testing.assert_allclose([d for d, _ in found[query]], [d for d, _ in ranked[:k]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", ["cos", "ip", "l2"])
@pytest.mark.parametrize("failed", [0, 7])
def test_late_interaction_is_the_triple_loop(tmp_path, metric, failed):
    study, volumes, known = with_volumes(tmp_path / "s", failed=failed)
    search_volumes(study, ENCODER, VolumeSearchOptions(("late",), k=4, metric=metric, candidates=None), say=silent)
    same(found_by(volumes, "late"), late_by_loops(known, metric=metric), k=4)


def test_late_interaction_passes_over_the_patient(tmp_path):
    study, volumes, known = with_volumes(tmp_path / "s")
    search_volumes(
        study, ENCODER, VolumeSearchOptions(("late",), k=5, candidates=None, exclude_same=("patient_id",)), say=silent
    )
    same(found_by(volumes, "late"), late_by_loops(known, metric="cos", exclude_patient=True), k=5)


def test_late_interaction_ranks_candidates_of_the_mean_again(tmp_path):
    study, volumes, known = with_volumes(tmp_path / "s", gallery=20)
    search_volumes(study, ENCODER, VolumeSearchOptions(("late",), k=3, candidates=4), say=silent)
    search(volumes, f"{ENCODER}~mean", "exact", SearchOptions(k=4))
    near = found_by(volumes, "exact", f"{ENCODER}~mean")
    everything = late_by_loops(known, metric="cos")
    expected = {
        query: [pair for pair in ranked if pair[1] in {v for _, v in near[query]}]
        for query, ranked in everything.items()
    }
    same(found_by(volumes, "late"), expected, k=3)
    assert any(expected[q][:3] != everything[q][:3] for q in expected), (
        "all candidates were the nearest: nothing was shown"
    )


@pytest.mark.parametrize("mode", ["count", "rank"])
@pytest.mark.parametrize("exclude", [False, True])
def test_aggregation_is_the_triple_loop(tmp_path, mode, exclude):
    study, volumes, known = with_volumes(tmp_path / "s", failed=6)
    columns = ("patient_id",) if exclude else ()
    search_volumes(study, ENCODER, VolumeSearchOptions((mode,), k=12, neighbors=3, exclude_same=columns), say=silent)
    expected = votes_by_loops(known, mode, k=3, metric="cos", exclude_patient=exclude)
    same(found_by(volumes, mode), expected, k=12)


@pytest.mark.parametrize("mode", ["count", "rank"])
def test_blank_slices_have_no_vote(tmp_path, mode):
    """A volume of blank slices alone finds nothing; others find what their other slices are near to."""
    study, volumes, known = with_volumes(tmp_path / "s", gallery=20, queries=12, blank=0.7, ragged=False)
    search_volumes(study, ENCODER, VolumeSearchOptions((mode,), k=12, neighbors=3), say=silent)
    expected = votes_by_loops(known, mode, k=3, metric="cos")
    found = found_by(volumes, mode)
    same(found, {query: ranked for query, ranked in expected.items() if ranked}, k=12)
    blank = [query for query in expected if all((vector == 0.5).all() for vector in known[query]["vectors"])]
    assert blank
    assert not set(blank) & set(found)
    assert len(found) >= 6


def test_a_query_in_the_gallery_does_not_find_itself(tmp_path):
    study, volumes, _ = with_volumes(tmp_path / "s")
    everything = "split IN ('train', 'test')"
    search_volumes(
        study, ENCODER, VolumeSearchOptions(gallery=everything, queries=everything, candidates=None), say=silent
    )
    for mode in ("count", "rank", "late"):
        assert all(query not in [v for _, v in ranked] for query, ranked in found_by(volumes, mode).items())


def test_batches_and_rounding_leave_the_result(tmp_path, monkeypatch):
    study, volumes, known = with_volumes(tmp_path / "s", gallery=20, queries=8)
    before = reranking.Slices.batches
    monkeypatch.setattr(reranking.Slices, "batches", lambda self, wanted, most=0: before(self, wanted, most=100))
    monkeypatch.setattr(reranking, "rounding", lambda *sides: 1e-6)
    search_volumes(study, ENCODER, VolumeSearchOptions(("late",), k=3, candidates=None), say=silent)
    same(found_by(volumes, "late"), late_by_loops(known, metric="cos"), k=3)


def test_matched_slices_are_the_nearest_pairs(tmp_path):
    study, volumes, known = with_volumes(tmp_path / "s", failed=4)
    search_volumes(study, ENCODER, VolumeSearchOptions(("count",), neighbors=3), say=silent)
    match_slices(study, ENCODER, ENCODER, "count")
    rows = volumes.dataset("matched_slices", ENCODER, "count").to_table().to_pylist()
    place = {key: (volume, i) for volume, said in known.items() for i, key in enumerate(said["slice_keys"])}
    by_pair = {}
    for row in rows:
        by_pair.setdefault((row["query_key"], row["neighbor_key"], row["rank"]), []).append(row)
    expected = {
        (q, v, r)
        for q, ranked in found_by(volumes, "count").items()
        for r, (_, v) in enumerate(ranked[:MATCHED_RANKS], 1)
    }
    assert set(by_pair) == expected
    for (query, neighbor, _), matches in by_pair.items():
        left = {
            (i, j): distance(a.astype(float), b.astype(float), "cos")
            for i, a in enumerate(known[query]["vectors"]) if a is not None
            for j, b in enumerate(known[neighbor]["vectors"]) if b is not None
        }  # fmt: skip
        assert len(matches) == min(3, len(present(known[query])), len(present(known[neighbor])))
        for number, match in enumerate(matches, 1):
            (v, i), (w, j) = place[match["query_slice_key"]], place[match["neighbor_slice_key"]]
            assert (v, w, match["match"]) == (query, neighbor, number)
            assert left[i, j] == pytest.approx(min(left.values()), abs=1e-6)
            assert match["distance"] == pytest.approx(left[i, j], abs=1e-6)
            left = {pair: d for pair, d in left.items() if i != pair[0] and j != pair[1]}


def test_blank_slices_match_last(tmp_path):
    """Of each query and its first volume, pairs of slices that their volumes have but once come before those of blank ones, which are nearer."""
    study, volumes, known = with_volumes(tmp_path / "s", gallery=20, queries=12, blank=0.5, ragged=False)
    search_volumes(study, ENCODER, VolumeSearchOptions(("late",), k=5, candidates=None), say=silent)
    match_slices(study, ENCODER, ENCODER, "late")
    vectors = {
        key: vector
        for volume in known.values()
        for key, vector in zip(volume["slice_keys"], volume["vectors"], strict=True)
    }
    blanks = {
        key
        for volume in known.values()
        for key in volume["slice_keys"]
        if (vectors[key] == 0.5).all() and sum((vectors[other] == 0.5).all() for other in volume["slice_keys"]) > 1
    }
    rows = volumes.dataset("matched_slices", ENCODER, "late").to_table().to_pylist()
    nearer = 0
    for key in {(row["query_key"], row["rank"]) for row in rows}:
        pair = sorted((row for row in rows if (row["query_key"], row["rank"]) == key), key=lambda row: row["match"])
        is_blank = [bool({row["query_slice_key"], row["neighbor_slice_key"]} & blanks) for row in pair]
        assert is_blank == sorted(is_blank)
        for some in (False, True):
            distances = [row["distance"] for row, blank in zip(pair, is_blank, strict=True) if blank is some]
            assert distances == sorted(distances)
        nearer += [row["distance"] for row in pair] != sorted(row["distance"] for row in pair)
    assert nearer > 5


def test_volumes_found_by_slices_are_evaluated_like_images(tmp_path):
    study, volumes, known = with_volumes(tmp_path / "s", failed=8)
    search_volumes(study, ENCODER, VolumeSearchOptions(candidates=None), say=silent)
    search(volumes, f"{ENCODER}~mean", "exact", SearchOptions())
    assert [s.name for s in find_searches(volumes)] == [
        f"{ENCODER} count", f"{ENCODER} late", f"{ENCODER} rank", f"{ENCODER}~mean exact",
    ]  # fmt: skip
    evaluate(volumes, EvaluateOptions(resamples=0, allow_overlap=True), say=silent)
    rows = [
        row for row in volumes.dataset("metrics").to_table().to_pylist()
        if (row["index"], row["metric"], row["k"], row["relevance"], row["slice_by"], row["average"]) == ("late", "precision_at_k", 3, "label", "all", "micro")
    ]  # fmt: skip
    ranked = late_by_loops(known, metric="cos")
    queries = [q for q, v in known.items() if v["split"] == "test"]
    expected = np.mean(
        [sum(known[v]["labels"] == known[q]["labels"] for _, v in ranked.get(q, [])[:3]) / 3 for q in queries]
    )
    assert rows[0]["value"] == pytest.approx(expected)
    assert rows[0]["n_queries"] == len(queries)


def test_volumes_of_a_validation_split_are_no_hindrance(tmp_path):
    """kNN classification looks for searches of val, of which there are none by slices."""
    rows = slice_rows(
        {
            f"v{i}": {"n": 2, "split": ("train", "train", "val", "test")[i % 4], "labels": ["CT/chest/x"]}
            for i in range(12)
        }
    )
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.arange(1.0, 5.0) + i for i, row in enumerate(rows)})
    volumes, _ = make_volumes(study, [ENCODER], ReductionOptions(("mean",)), say=silent)
    search_volumes(study, ENCODER, VolumeSearchOptions(candidates=None), say=silent)
    search(volumes, f"{ENCODER}~mean", "exact", SearchOptions())
    lines = []
    evaluate(volumes, EvaluateOptions(ks=[1], resamples=0), say=lines.append)
    assert [line for line in lines if "no kNN classification" in line and "~mean by exact" in line]
    assert not [line for line in lines if "by late" in line or "by count" in line]


def test_the_same_is_not_searched_again_and_another_question_is_refused(tmp_path):
    study, volumes, _ = with_volumes(tmp_path / "s")
    lines = []
    search_volumes(study, ENCODER, VolumeSearchOptions(("count",)), say=lines.append)
    search_volumes(study, ENCODER, VolumeSearchOptions(("count",)), say=lines.append)
    assert lines[1].endswith("already searched")
    with pytest.raises(UserError, match=r"searched otherwise \(neighbors 10 there, 4 now\)"):
        search_volumes(study, ENCODER, VolumeSearchOptions(("count",), neighbors=4), say=silent)
    search_volumes(study, ENCODER, VolumeSearchOptions(("count",), neighbors=4, overwrite=True), say=silent)
    assert volumes.run_of("neighbors", ENCODER, "count")["parameters"]["neighbors"] == 4


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"modes": ("mode",)}, "--by mode; expected some of"),
        ({"k": 0}, "-k 0"),
        ({"neighbors": 0}, "--neighbors 0"),
        ({"candidates": 2, "k": 5}, "fewer than -k 5"),
        ({"k": 500, "candidates": None}, "larger than the gallery"),
        ({"exclude_same": ("patiant_id",)}, "no such column"),
    ],
)
def test_misuse_is_one_line(tmp_path, options, match):
    study, _, _ = with_volumes(tmp_path / "s")
    with pytest.raises(UserError, match=match) as error:
        search_volumes(study, ENCODER, VolumeSearchOptions(**options), say=silent)
    assert "\n" not in str(error.value)


def test_candidates_need_the_mean(tmp_path):
    study, _ = drawn(tmp_path / "s")
    make_volumes(study, [ENCODER], ReductionOptions(("max",)), say=silent)
    with pytest.raises(UserError, match="make them with --reduce mean"):
        search_volumes(study, ENCODER, VolumeSearchOptions(("late",)), say=silent)
