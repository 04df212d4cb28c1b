"""cbmir study encoders: one question to all encoders, figures and tests as recomputed here, and each kind of misuse in one line."""

import csv
import itertools
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist

from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.leaderboard import EncodersOptions, study_encoders
from cbmir.schemas import ContractError
from cbmir.search import SearchOptions, search
from cbmir.store import Study
from tests.studies import add_embeddings, make_study

GALLERY, QUERIES, PATIENTS, DIM = 40, 36, 9, 6
LABELS = ["XR/chest/A", "XR/chest/B", "XR/hand/C"]
NOISE = {"sharp": 0.6, "fair": 0.7, "blind": 40.0}


def collection() -> list[dict]:
    """Queries of nine patients, gallery images of others; A is frequent and C rare."""
    rows = []
    for i in range(GALLERY + QUERIES):
        label = LABELS[(0, 0, 0, 1, 1, 2)[i % 6]]
        patient = f"p{i % PATIENTS}" if i >= GALLERY else f"g{i}"
        rows.append({"image_id": f"i{i:02d}", "split": "test" if i >= GALLERY else "train", "patient_id": patient})
        rows[-1] |= {"labels": [label], "region": label.split("/")[1]}
    return rows


def vectors(rows: list[dict], noise: float, *, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, int(10 * noise)])
    centers = dict(zip(LABELS, np.eye(DIM)[:3], strict=True))
    of = {row["image_id"]: centers[row["labels"][0]] + noise * rng.normal(size=DIM) for row in collection()}
    return {row["image_id"]: of[row["image_id"]] for row in rows}


def hand_study(root, encoders=tuple(NOISE), **change) -> Study:
    rows = [row | change for row in collection()]
    study = make_study(root, rows)
    for name in encoders:
        add_embeddings(study, [r["image_id"] for r in rows], vectors(rows, NOISE[name]), encoder=name)
    return study


def quiet(study: Study, **options) -> list[dict]:
    return study_encoders(study, EncodersOptions(**options), say=lambda line: None)


def said(study: Study, **options) -> str:
    lines = []
    study_encoders(study, EncodersOptions(**options), say=lines.append)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    study = hand_study(tmp_path_factory.mktemp("leaderboard") / "study")
    quiet(study, k=3)
    return study


@pytest.fixture
def own(tmp_path) -> Study:
    """A study that nothing was searched in yet."""
    return hand_study(tmp_path / "study")


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """P@3 of each query by each encoder, and its label and patient: by scipy's distances, without cbmir."""
    rows = pd.DataFrame(collection())
    rows["label"] = rows["labels"].str[0]
    gallery, queries = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    found = queries[["image_id", "label", "patient_id"]].reset_index(drop=True)
    for name, noise in NOISE.items():
        of = vectors(collection(), noise)
        stored = {key: np.float32(value) for key, value in of.items()}
        distances = cdist([stored[i] for i in queries["image_id"]], [stored[i] for i in gallery["image_id"]], "cosine")
        nearest = gallery["label"].to_numpy()[np.argsort(distances, axis=1)[:, :3]]
        found[name] = (nearest == queries["label"].to_numpy()[:, None]).mean(axis=1)
    return found


def test_figures_are_those_of_an_independent_search(study, scores):
    rows = {row["encoder"]: row for row in quiet(study, k=3)}
    assert set(rows) == set(NOISE)
    for name, row in rows.items():
        assert row["value"] == pytest.approx(scores[name].mean(), abs=1e-12)
        assert row["macro"] == pytest.approx(scores.groupby("label")[name].mean().mean(), abs=1e-12)
        assert (row["n_queries"], row["n_patients"], row["n_failed"], row["gallery_size"]) == (QUERIES, PATIENTS, 0, GALLERY)  # fmt: skip
        share = pd.Series([r["labels"][0] for r in collection()[:GALLERY]]).value_counts(normalize=True)
        assert row["chance"] == pytest.approx(scores["label"].map(share).mean(), abs=1e-12)
        assert row["lift"] == pytest.approx(row["value"] / row["chance"])
    order = scores[list(NOISE)].mean().sort_values(ascending=False)
    assert list(rows) == list(order.index)
    assert [row["rank"] for row in rows.values()] == [1, 2, 3]
    assert [row["is_best"] for row in rows.values()] == [True, False, False]


def exact_p(scores: pd.DataFrame, a: str, b: str) -> float:
    """Every one of the 2^9 exchanges of patients, weighed."""
    by_patient = (scores[a] - scores[b]).groupby(scores["patient_id"]).sum().to_numpy()
    signs = np.array(list(itertools.product((1, -1), repeat=len(by_patient))))
    return float((np.abs(signs @ by_patient) >= abs(by_patient.sum()) - 1e-9).mean())


def test_tests_against_the_best_are_those_of_all_exchanges(study, scores):
    rows = {row["encoder"]: row for row in quiet(study, k=3)}
    best = next(iter(rows))
    pairs = list(itertools.combinations(NOISE, 2))
    p = {frozenset(pair): exact_p(scores, *pair) for pair in pairs}
    adjusted, running = {}, 0.0
    for place, pair in enumerate(sorted(p, key=p.get)):
        running = max(running, min(1.0, p[pair] * (len(p) - place)))
        adjusted[pair] = running
    for name in set(rows) - {best}:
        row, pair = rows[name], frozenset({name, best})
        assert row["difference"] == pytest.approx((scores[name] - scores[best]).mean(), abs=1e-12)
        sd = np.sqrt(p[pair] * (1 - p[pair]) / 10_000)
        assert row["p_value"] == pytest.approx(p[pair], abs=5 * sd + 1e-4)
        assert row["p_holm"] == pytest.approx(adjusted[pair], abs=3 * (5 * sd + 1e-4))
        assert row["n_tests"] == len(pairs)
        assert row["differs"] == (row["p_holm"] < 0.05)
    assert rows["blind"]["differs"]  # else the study shows nothing
    assert {rows[best][name] for name in ("difference", "p_value", "p_holm", "n_tests", "differs")} == {None}


def test_intervals_are_those_of_patients_drawn_anew(study, scores):
    rows = {row["encoder"]: row for row in quiet(study, k=3)}
    best = next(iter(rows))
    rng = np.random.default_rng(5)
    draws = rng.multinomial(PATIENTS, [1 / PATIENTS] * PATIENTS, size=20_000)
    groups = scores.groupby("patient_id")
    sizes = groups.size().to_numpy()
    for name, row in rows.items():
        means = draws @ groups[name].sum().to_numpy() / (draws @ sizes)
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.03)
        if name != best:
            apart = draws @ (groups[name].sum() - groups[best].sum()).to_numpy() / (draws @ sizes)
            bounds = [row["difference_low"], row["difference_high"]]
            assert bounds == pytest.approx(np.quantile(apart, [0.025, 0.975]).tolist(), abs=0.03)


def test_the_text_says_figures_tests_and_who_is_alike(study):
    rows = {row["encoder"]: row for row in quiet(study, k=3)}
    text = said(study, k=3)
    for name, row in rows.items():
        (line,) = [line for line in text.splitlines() if re.match(rf"\d +{name} ", line)]
        assert f"{100 * row['value']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]" in line
        if row["is_best"]:
            assert line.endswith("the best")
        else:
            assert f"{100 * row['difference']:+.1f} [" in line
            assert f"{row['p_value']:.4f}" in line
            assert line.endswith("yes" if row["differs"] else "no")
    assert "Holm's correction holds over 3 tests" in text
    alike = [name for name, row in rows.items() if row["differs"] is False]
    assert re.search(rf"not distinguishable from {next(iter(rows))} .*: {', '.join(alike)}\n", text)
    assert alike == ["fair"]
    assert "gallery: split = 'train'; queries: split = 'test'" in text


def test_the_command_saves_what_it_prints_and_searches_once(own, tmp_path, capsys):
    file = tmp_path / "board.csv"
    flags = ["study", "encoders", "--study", own.address, "--k", "3", "--csv", str(file)]
    assert main(flags) == 0
    assert capsys.readouterr().out.count(" s\n") == 3
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    assert main(flags) == 0
    again = capsys.readouterr().out
    assert again.count("already searched") == 3
    assert "metrics: up to date" in again
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == written
    rows = quiet(own, k=3)
    saved = list(csv.DictReader(file.read_text().splitlines()))
    assert [line["encoder"] for line in saved] == [row["encoder"] for row in rows]
    for line, row in zip(saved, rows, strict=True):
        assert list(line) == list(row)
        assert float(line["value"]) == row["value"]
        assert line["p_holm"] == ("" if row["p_holm"] is None else repr(row["p_holm"]))


def test_a_new_encoder_is_asked_what_the_others_were_asked(tmp_path):
    study = hand_study(tmp_path / "study", ("sharp", "fair"))
    asked = SearchOptions(
        k=7, metric="l2", exclude_same=("patient_id",), gallery="split = 'train' AND region = 'chest'"
    )
    search(study, "sharp", "exact", asked)
    quiet(study, encoders=("sharp", "fair"))
    runs = [study.run_of("neighbors", name, "exact") for name in ("sharp", "fair")]
    assert runs[0]["parameters"] == runs[1]["parameters"]
    assert runs[0]["question"] == runs[1]["question"]
    assert runs[1]["parameters"]["exclude_same"] == ["patient_id"]


def test_searches_that_ask_otherwise_are_refused_and_made_again_on_demand(own):
    search(own, "sharp", "exact", SearchOptions(k=10))
    search(own, "fair", "exact", SearchOptions(k=10, gallery="split <> 'test'"))
    with pytest.raises(
        UserError,
        match=r"ask different questions, --gallery \"split <> 'test'\" for fair; \"split = 'train'\" for sharp; .* --encoder",
    ):
        quiet(own)
    with pytest.raises(
        UserError, match=r"neighbors of fair by exact were searched otherwise \(--gallery \"split <> 'test'\" there"
    ):
        quiet(own, gallery="split = 'train'")
    before = own.run_of("neighbors", "sharp", "exact")
    rows = quiet(own, gallery="split = 'train'", overwrite=True)
    assert len(rows) == 3
    assert own.run_of("neighbors", "fair", "exact")["parameters"]["gallery"] == "split = 'train'"
    assert own.run_of("neighbors", "sharp", "exact") == before
    search(own, "fair", "exact", SearchOptions(k=5, overwrite=True))
    with pytest.raises(UserError, match=r"ask different questions, -k 10 for blind, sharp; 5 for fair"):
        quiet(own)
    assert len(quiet(own, encoders=("sharp", "blind"))) == 2


def test_encoders_that_failed_for_some_images_are_searched_to_one_depth(tmp_path):
    """P@k of searches of different depths is not compared, and the gallery of one encoder is smaller."""
    study = hand_study(tmp_path / "study", ("sharp",))
    rows = collection()
    some = vectors(rows[4:], NOISE["fair"])
    add_embeddings(study, [r["image_id"] for r in rows], some, encoder="fair")
    ranked = quiet(study)
    depths = [study.run_of("neighbors", name, "exact")["parameters"]["k"] for name in ("sharp", "fair")]
    assert depths == [GALLERY - 4] * 2
    assert [row["n_tests"] for row in ranked if not row["is_best"]] == [1]


def test_one_encoder_has_no_test_and_that_is_said(tmp_path):
    study = hand_study(tmp_path / "study", ("sharp",))
    text = said(study)
    assert "one encoder: there is nothing to test it against" in text
    assert "Holm" not in text
    (row,) = quiet(study)
    assert row["is_best"]
    assert row["p_value"] is None


def test_equal_encoders_share_a_rank_and_cannot_be_told_apart(tmp_path):
    study = hand_study(tmp_path / "study", ("fair",))
    rows = collection()
    add_embeddings(study, [r["image_id"] for r in rows], vectors(rows, NOISE["fair"]), encoder="copy")
    ranked = quiet(study)
    assert [(row["rank"], row["encoder"]) for row in ranked] == [(1, "copy"), (1, "fair")]
    assert (ranked[1]["difference"], ranked[1]["p_value"], ranked[1]["differs"]) == (0, 1, False)


def test_what_was_asked_of_an_evaluation_before_is_kept(own):
    for name in NOISE:
        search(own, name, "exact", SearchOptions(k=10))
    evaluate(own, EvaluateOptions(metrics=("hit_rate_at_k",), ks=(2,), slices=("split",), resamples=0))
    quiet(own, k=4, encoders=("sharp", "fair"))
    metrics = pq.read_table(own.files("metrics")).to_pandas()
    assert {"hit_rate_at_k", "precision_at_k"} == set(metrics["metric"])
    assert {"all", "split"} == set(metrics["slice_by"])
    assert {2, 4} <= set(metrics["k"])
    parameters = own.run_of("comparisons")["parameters"]
    assert (parameters["resamples"], parameters["k"]) == (1000, [2, 4])
    evaluate(own, EvaluateOptions(resamples=400, permutations=500, seed=3))
    quiet(own)
    parameters = own.run_of("comparisons")["parameters"]
    assert [parameters[name] for name in ("resamples", "permutations", "seed")] == [400, 500, 3]


def test_depths_that_nobody_asked_for_are_left_out(own):
    """The usual depths go to 10, the searches to 5."""
    assert len(quiet(own, k=2, depth=5)) == 3
    assert own.run_of("metrics")["parameters"]["k"] == [1, 2, 3, 5]
    assert len(quiet(own, k=3)) == 3
    with pytest.raises(UserError, match="--k 6: the searches go to -k 5"):
        quiet(own, k=6)


def test_what_an_evaluation_would_refuse_is_refused_before_anything_is_searched(own):
    search(own, "sharp", "exact", SearchOptions(k=3, save_as="few"))
    with pytest.raises(UserError, match="--k 20: neighbors of sharp by few were searched with -k 3; expected 1 to 3"):
        quiet(own, k=20)
    assert not own.exists("neighbors", "fair")
    assert len(quiet(own, k=10)) == 3, "a usual depth is taken as far as each search goes"
    run = own.run_of("neighbors", "sharp", "few")
    own.write_json(run | {"inputs": run["inputs"] | {"manifest": "older"}}, "neighbors", "sharp", "few", "run.json")
    own.delete("neighbors", "blind")
    with pytest.raises(UserError, match="neighbors of sharp by few are older than the manifest"):
        quiet(own)
    assert not own.exists("neighbors", "blind")


def test_nothing_is_passed_over_again_where_that_is_asked(own, capsys):
    quiet(own, exclude_same=("patient_id",))
    flags = ["study", "encoders", "--study", own.address]
    assert main([*flags, "--exclude-nothing"]) == 2
    said = capsys.readouterr().err.strip()
    assert "were searched otherwise (--exclude-same patient_id there, nothing now)" in said
    assert len(said.splitlines()) == 1
    assert main([*flags, "--exclude-nothing", "--overwrite"]) == 0
    assert {tuple(own.run_of("neighbors", name, "exact")["parameters"]["exclude_same"]) for name in NOISE} == {()}


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--k", "41"], "--k 41: the searches go to -k 40"),
        (["--relevance", "labels"], "--relevance labels; nearest: 'label'"),
        (["--encoder", "sharpe"], "no embeddings of encoder 'sharpe' in the study; nearest: 'sharp'"),
        (["--exclude-same", "patient"], "--exclude-same patient: no such column"),
        (["--exclude-same", "patient_id", "--exclude-nothing"], "--exclude-same and --exclude-nothing; expected one of both"),
        (["--gallery", "wrong = 1"], "no column 'wrong' in the manifest"),
        (["--metric", "cosine"], "--metric"),
        (["--k", "few"], "--k"),
    ],
)  # fmt: skip
def test_misuse_of_the_command_is_one_line(own, capsys, flags, said):
    try:
        code = main(["study", "encoders", "--study", own.address, *flags])
    except SystemExit as left:  # the parser's own
        code = left.code
    text = capsys.readouterr().err.strip()
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1
    assert not own.exists("neighbors")


def test_too_few_permutations_for_so_many_tests_are_named(own):
    text = said(own, permutations=30)
    assert re.search(
        r"30 permutations give no p below 0.03, .* over 3 tests nothing can differ; expected --permutations 60 or more",
        text,
    )
    assert "nothing can differ" not in said(own, permutations=60)


def test_patients_on_both_sides_are_refused_before_anything_is_searched(tmp_path):
    study = hand_study(tmp_path / "study", patient_id="p1")
    with pytest.raises(UserError, match="1 patient has queries and gallery images in the searches"):
        quiet(study)
    assert not study.exists("neighbors")
    assert len(quiet(study, allow_overlap=True)) == 3
    assert len(quiet(study)) == 3  # said once


def test_encoders_that_are_not_embedded_are_named(own):
    with pytest.raises(UserError, match=r"no embeddings of encoder 'sharpe' in the study; nearest: 'sharp'"):
        quiet(own, encoders=("sharpe",))
    own.delete("embeddings", "encoder=fair", "run.json")
    text = said(own)
    assert (
        "fair: its embeddings are unfinished, and it is left out; finish them with: cbmir embed --encoder fair" in text
    )
    assert not own.exists("neighbors", "fair")
    with pytest.raises(ContractError, match="embeddings/encoder=fair is unfinished"):
        quiet(own, encoders=("fair",))
    for name in ("sharp", "blind"):
        own.delete("embeddings", f"encoder={name}", "run.json")
    with pytest.raises(UserError, match="has no finished embeddings"):
        quiet(own)


def test_a_level_at_which_nothing_is_judged_is_named(tmp_path):
    study = hand_study(tmp_path / "study", labels=[])
    with pytest.raises(
        UserError,
        match=r"no query can be judged at relevance label, P@1; .* judged at: region, modality, modality_region",
    ):
        quiet(study)
    assert len(quiet(study, relevance="region")) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"relevance": "labels"}, r"--relevance labels; nearest: 'label'"),
        ({"k": 0}, r"--k 0; expected 1 or more"),
        ({"k": 41}, r"--k 41: the searches go to -k 40"),
        ({"resamples": 0}, r"--resamples 0: without them there is no test"),
        ({"permutations": 0}, r"--permutations 0; expected 1 or more"),
        ({"depth": 41}, r"-k 41 is larger than the gallery \(40 embedded images\)"),
        ({"gallery": "split = 'nowhere'"}, r"the gallery is empty"),
        ({"metric": "cosine"}, r"--metric cosine; expected one of: "),
    ],
)
def test_misuse_is_one_line(own, options, message):
    with pytest.raises(UserError, match=message) as refused:
        quiet(own, **options)
    assert "\n" not in str(refused.value)
