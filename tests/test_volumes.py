"""Volumes as a study of their own: manifest, slices and vectors, against plain loops."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.removal import RemoveOptions, remove
from cbmir.schemas import ContractError, image_key
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from cbmir.volumes import make_volumes
from cbmir.volumetric.options import ReductionOptions
from cbmir.volumetric.place import slices_of, volumes_of
from cbmir.volumetric.reductions import parse_reductions, resampled
from cbmir.volumetric.slices import Slices
from tests.studies import add_embeddings, make_study
from tests.volumes_by_hand import ENCODER, drawn, present, slice_rows

pytestmark = pytest.mark.usefixtures("ray_session")


def rows_of(study, *parts):
    return study.dataset(*parts).to_table().to_pylist()


def vectors_of(study, name):
    return {row["image_key"]: np.array(row["embedding"]) for row in rows_of(study, "embeddings", f"encoder={name}")}


def made(study, *reductions, **options):
    lines = []
    volumes, names = make_volumes(
        study, [ENCODER], ReductionOptions(reductions=reductions, **options), say=lines.append
    )
    return volumes, names[ENCODER], lines


def test_a_volume_is_the_rows_that_share_its_id(tmp_path):
    rows = slice_rows(
        {
            "a": {"n": 3, "split": "train", "patient_id": "p1", "labels": ["CT/chest/x"], "age": 40, "sex": "F"},
            "b": {"n": 2, "split": "test", "labels": []},
        }
    )
    rows[1] |= {"labels": ["CT/chest/y"], "unknown_labels": ["CT/chest/x", "CT/chest/z"], "age": 41}
    rows.append({"image_id": "hand/alone", "split": "train", "dataset": "hand"})
    rows.append({"image_id": "other/1", "volume_id": "hand/a", "slice": 0, "dataset": "other", "split": "test"})
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(4) for row in rows})
    volumes, _, lines = made(study, "mean")
    found = {row["image_id"]: row for row in rows_of(volumes, "manifest")}
    assert set(found) == {"hand/a", "hand/b", "other/hand/a"}
    a = found["hand/a"]
    assert a["image_key"] == image_key("hand/a")
    assert (a["labels"], a["unknown_labels"]) == (["CT/chest/x", "CT/chest/y"], ["CT/chest/z"])
    assert (a["patient_id"], a["split"], a["n_slices"], a["uri"]) == ("p1", "train", 3, "hand/a#1.png")
    assert (a["age"], a["sex"], a["slice"]) == (None, "F", None)
    assert found["hand/b"]["n_slices"] == 2
    assert "1 images are of no volume" in lines[0]


def test_slices_are_in_their_order_and_say_what_is_embedded(tmp_path):
    study, known = drawn(tmp_path / "s", failed=6)
    volumes, _, lines = made(study, "mean")
    found = {}
    for row in rows_of(volumes, "slices", f"encoder={ENCODER}"):
        found.setdefault(row["image_key"], []).append((row["place"], row["slice_key"], row["embedded"]))
    expected = {
        key: [
            (i, one, vector is not None)
            for i, (one, vector) in enumerate(zip(v["slice_keys"], v["vectors"], strict=True))
        ]
        for key, v in known.items()
    }
    assert found == expected
    assert any("volumes have slices without a vector" in line for line in lines)


@pytest.mark.parametrize("dtype", ["float32"])
def test_every_reduction_is_what_its_sentence_says(tmp_path, dtype):
    study, known = drawn(tmp_path / "s", failed=5)
    volumes, names, _ = made(study, "mean", "max", "meanmax", "inner", "concat4")
    assert names == [f"{ENCODER}~{name}" for name in ("mean", "max", "meanmax", "inner1", "concat4")]
    found = {name.split("~")[1]: vectors_of(volumes, name) for name in names}
    for key, volume in known.items():
        slices = present(volume)
        n = len(volume["vectors"])
        drop = min(1, (n - 1) // 2)
        inside = [v.astype(float) for i, v in enumerate(volume["vectors"]) if v is not None and drop <= i < n - drop]
        expected = {
            "mean": sum(slices) / len(slices),
            "max": np.array([max(s[i] for s in slices) for i in range(6)]),
            "inner1": sum(inside) / len(inside) if inside else None,
        }
        expected["meanmax"] = np.array([*expected["mean"], *expected["max"]])
        whole = np.array(slices) if len(slices) == n else None
        expected["concat4"] = (
            None
            if whole is None
            else (whole if n == 4 else zoom(whole, (4 / n, 1), order=min(3, n - 1), mode="mirror")).ravel()
        )
        for name, vector in expected.items():
            if vector is None:
                assert key not in found[name]
            else:
                np.testing.assert_allclose(found[name][key], vector, rtol=1e-6, atol=1e-6)
    run = volumes.run_of("embeddings", f"encoder={ENCODER}~concat4")
    failed = rows_of(volumes, "failures", f"encoder={ENCODER}~concat4")
    assert run["rows"] + run["failed"] == len(known)
    assert run["failed"] == len(failed) > 0
    assert all(
        "no vector: a concatenation needs them all" in row["error"] and row["stage"] == "reduce" for row in failed
    )
    assert "one after the other" in run["definition"]


def test_resampling_keeps_ends_and_cubics():
    places = np.arange(9.0)
    straight = np.stack([places, 3 - 2 * places], axis=1)
    np.testing.assert_allclose(resampled(straight, 17)[[0, 8, 16]], straight[[0, 4, 8]], atol=1e-12)
    assert resampled(straight, 9) is straight
    np.testing.assert_array_equal(resampled(np.array([[1.0, 2.0]]), 3), [[1, 2]] * 3)
    noise = np.random.default_rng(0).standard_normal((11, 3))
    np.testing.assert_allclose(resampled(noise, 28), zoom(noise, (28 / 11, 1), order=3, mode="mirror"), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("median", "expected some of"),
        ("mean4", "expected some of"),
        ("concat1", "2 to 1,000"),
        ("inner0", "expected some of"),
        ("concat5000", "expected some of"),
    ],
)
def test_unknown_reductions_are_refused(name, match):
    with pytest.raises(UserError, match=match):
        parse_reductions((name,), 64)


def test_concat_alone_takes_the_usual_number_of_slices(tmp_path):
    study, _ = drawn(tmp_path / "s", ragged=False)
    _, names, _ = made(study, "concat", "concat4")
    assert names == [f"{ENCODER}~concat4"] * 1


def test_what_is_there_is_not_made_again_and_what_has_changed_is(tmp_path):
    study, _ = drawn(tmp_path / "s")
    volumes, names, _ = made(study, "mean", "max")
    before = volumes.run_of("embeddings", f"encoder={names[0]}")
    _, _, lines = made(study, "mean")
    assert volumes.run_of("embeddings", f"encoder={names[0]}") == before
    assert any("already made" in line for line in lines)
    rows = rows_of(study, "manifest")
    study.delete("embeddings", f"encoder={ENCODER}")
    add_embeddings(
        study, [r["image_id"] for r in rows], {r["image_id"]: np.full(6, 2.0) for r in rows}, encoder=ENCODER, files=2
    )
    run = study.run_of("embeddings", f"encoder={ENCODER}")
    study.write_json(run | {"fingerprint": "another"}, "embeddings", f"encoder={ENCODER}", "run.json")
    with pytest.raises(
        UserError,
        match=r"older than the embeddings that it was made of; make it again with: cbmir volumes --study .* --reduce mean",
    ):
        search(volumes, names[0], "exact", SearchOptions())
    with pytest.raises(UserError, match="older than its vectors"):
        Slices(volumes, ENCODER)
    made(study, "mean")
    assert all((vector == 2).all() for vector in vectors_of(volumes, names[0]).values())


def test_a_volume_on_both_sides_and_one_of_two_patients_are_refused(tmp_path):
    rows = slice_rows({"a": {"n": 3, "split": "train"}, "b": {"n": 2, "split": "test"}})
    rows[2]["split"] = "test"
    study = make_study(tmp_path / "s", rows, {row["image_id"]: np.ones(4) for row in rows})
    with pytest.raises(
        UserError, match=r"a volume has slices in several splits, the first 'hand/a' in 2; expected one"
    ):
        made(study, "mean")
    assert not volumes_of(study).exists("manifest", "run.json")
    rows[2] |= {"split": "train", "patient_id": "p2"}
    rows[1]["patient_id"] = "p1"
    other = make_study(tmp_path / "t", rows, {row["image_id"]: np.ones(4) for row in rows})
    with pytest.raises(UserError, match="several patients"):
        made(other, "mean")


def test_images_without_volumes_have_none(tmp_path):
    study = make_study(tmp_path / "s", [{"image_id": "a"}], {"a": np.ones(4)})
    with pytest.raises(UserError, match="none has a volume_id"):
        made(study, "mean")


def test_a_study_of_volumes_is_not_asked_for_volumes(tmp_path):
    study, _ = drawn(tmp_path / "s")
    volumes, _, _ = made(study, "mean")
    assert slices_of(volumes).root == study.root
    assert slices_of(Study(str(volumes.root))).root == study.root
    with pytest.raises(UserError, match="is a study of volumes; expected that of their slices"):
        make_volumes(volumes, [ENCODER], ReductionOptions())


def test_a_volume_without_any_vector_is_a_failure_and_scores_zero(tmp_path):
    rows = slice_rows(
        {f"v{i}": {"n": 2, "split": "train" if i < 4 else "test", "labels": ["CT/chest/x"]} for i in range(7)}
    )
    vectors = {row["image_id"]: np.arange(1.0, 5.0) + i for i, row in enumerate(rows) if "v6#" not in row["image_id"]}
    study = make_study(tmp_path / "s", rows, vectors)
    volumes, names, lines = made(study, "mean")
    assert any("1 volumes have no slice with a vector" in line for line in lines)
    assert [row["error"] for row in rows_of(volumes, "failures", f"encoder={names[0]}")] == [
        "none of the 2 slices has a vector"
    ]
    search(volumes, names[0], "exact", SearchOptions())
    evaluate(volumes, EvaluateOptions(resamples=0), say=lambda line: None)
    (row,) = [
        r for r in rows_of(volumes, "metrics")
        if (r["metric"], r["k"], r["relevance"], r["slice_by"], r["average"]) == ("precision_at_k", 1, "label", "all", "micro")
    ]  # fmt: skip
    assert row["value"] == pytest.approx(2 / 3)
    assert (row["n_queries"], row["n_failed"]) == (3, 1)


def test_a_missing_study_of_volumes_is_named(tmp_path):
    from cbmir.volumetric.place import require_volumes

    study, _ = drawn(tmp_path / "s")
    with pytest.raises(ContractError, match="has no volumes yet"):
        require_volumes(study)


def test_volumes_of_an_older_manifest_are_refused(tmp_path):
    study, _ = drawn(tmp_path / "s")
    volumes, names, _ = made(study, "mean")
    search(volumes, names[0], "exact", SearchOptions())
    run = study.run_of("manifest")
    study.write_json(run | {"fingerprint": "other labels"}, "manifest", "run.json")
    again = "older than the manifest of their slices; make them again with: cbmir volumes"
    with pytest.raises(UserError, match=again):
        evaluate(volumes, EvaluateOptions(resamples=0))
    with pytest.raises(UserError, match=again):
        search(volumes, names[0], "exact", SearchOptions())
    made(study, "mean")
    search(volumes, names[0], "exact", SearchOptions())


def test_images_that_are_removed_take_the_volumes_with_them(tmp_path):
    study, _ = drawn(tmp_path / "s")
    volumes, names, _ = made(study, "mean")
    search(volumes, names[0], "exact", SearchOptions())
    with pytest.raises(UserError, match="remove the slices from the study that they lie in"):
        remove(volumes, RemoveOptions(where="patient_id = 'p1'"))
    lines = []
    remove(study, RemoveOptions(where="patient_id = 'p1'"), say=lines.append)
    assert not volumes.exists()
    assert any(
        line.strip() == f"cbmir volumes --study {study.address} --encoder {ENCODER} --reduce mean" for line in lines
    )
