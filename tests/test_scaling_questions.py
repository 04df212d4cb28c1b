"""What `cbmir study index-size` asks of all its samples alike, what stays when something else is asked, and samples that hold too little to be told apart."""

import threading
import time

import duckdb
import numpy as np
import pytest

from cbmir.cli import main
from cbmir.errors import UserError
from cbmir.exclusions import exclusion_codes
from cbmir.holding import held
from cbmir.index import IndexOptions
from cbmir.indexing import opened
from cbmir.sampled.approximate import walk_sample
from cbmir.sampled.options import ScalingOptions
from cbmir.sampled.questions import cells
from cbmir.scaling import study_index_size
from cbmir.store import Study
from cbmir.vectors import Vectors
from tests.studies import add_embeddings, make_study

DIM = 6
SMALL = {"seeds": 1, "ks": (1,), "k": 5, "resamples": 0}


def collection(n: int = 120, *, labels: int = 4, patient=lambda i, split: f"{split}{i}") -> tuple[list[dict], dict]:
    """n images of a few labels, 3 of 4 in the gallery."""
    rng = np.random.default_rng(0)
    centers = 2 * rng.normal(size=(labels, DIM))
    rows, vectors = [], {}
    for i in range(n):
        label, split = int(rng.integers(labels)), "test" if i % 4 == 3 else "train"
        rows.append({"image_id": f"a/{i}", "split": split, "labels": [f"c{label}"], "patient_id": patient(i, split)})
        vectors[f"a/{i}"] = (centers[label] + rng.normal(size=DIM)).astype(np.float32)
    return rows, vectors


ROWS, VECTORS = collection()


@pytest.fixture
def study(tmp_path, ray_session) -> Study:
    return make_study(tmp_path / "study", ROWS, VECTORS)


def asked(study: Study, encoders=("pixels32",), words=(), **options) -> list[str]:
    said: list[str] = []
    study_index_size(study, list(encoders), ScalingOptions(**SMALL | options), asked=words, say=said.append)
    return said


def names(study: Study) -> set[str]:
    return {"/".join(parts[1:]) for parts, _ in cells(study)}


def rows(study: Study, dataset: str, where: str = "true"):
    return duckdb.sql(f"SELECT * FROM '{study.path(dataset)}/*.parquet' WHERE {where}").df()


# --- one question of all


def test_figures_of_other_kinds_do_not_stand_beside_each_other(study):
    """Each by its flag, before anything is done or lost; the same with --overwrite leaves what was asked last."""
    asked(study, sizes=(10, 20), indexes=("exact", "hnsw"), resamples=100)
    before = names(study)
    others = [
        ({"resamples": 200}, r"samples of pixels32 by exact were studied with --resamples 100, now 200; .* --overwrite to begin anew"),
        ({"ks": (1, 3)}, r"by exact were studied with --k 1, now 1,3;"),
        ({"scores": ("recall_at_k",)}, r"by exact were studied with --score precision_at_k,precision_at_k_capped, now recall_at_k;"),
        ({"gallery": "labels[1] <> 'c1'"}, r"by exact were studied with --gallery split = 'train', now labels"),
        ({"exclude_same": ("patient_id",)}, r"by exact were studied with --exclude-same nothing, now patient_id;"),
        ({"index": IndexOptions(dtype="i8")}, r"by hnsw were studied with --dtype bf16, now i8;"),
        ({"index": IndexOptions(pca=2)}, r"by hnsw were studied with --pca nothing, now 2;"),
        ({"index": IndexOptions(rerank=1)}, r"by hnsw were studied with --rerank \d, now 1;"),
        ({"recall": 0.5}, r"by hnsw-tuned were studied with --recall 0.99, now 0.5;"),
    ]  # fmt: skip
    for change, message in others:
        for sizes in ((10, 20), (40, None)):
            with pytest.raises(UserError, match=message) as refused:
                asked(study, **{"sizes": sizes, "indexes": ("hnsw",), "resamples": 100} | change)
            assert "\n" not in str(refused.value)
    assert names(study) == before
    asked(study, sizes=(40,), indexes=("hnsw",), resamples=100, index=IndexOptions(dtype="i8"), overwrite=True)
    assert {name for name in names(study) if "/exact/" in name} == {name for name in before if "/exact/" in name}
    assert {name for name in names(study) if "/hnsw" in name} == {
        "pixels32/hnsw/random-s0-n40",
        "pixels32/hnsw-tuned/random-s0-n40",
    }
    assert set(rows(study, "scaling_costs", "index <> 'exact'")["dtype"]) == {"i8"}
    asked(study, sizes=(30,), resamples=0, overwrite=True)
    assert names(study) == {"pixels32/exact/random-s0-n30"}


def test_another_encoder_and_another_name_may_have_another_index(study):
    add_embeddings(study, list(VECTORS), VECTORS, encoder="two")
    asked(study, sizes=(10, 20), indexes=("exact", "hnsw"))
    asked(study, ["two"], sizes=(10, 20), indexes=("exact", "hnsw"), index=IndexOptions(dtype="i8"))
    asked(study, sizes=(10, 20), indexes=("poor",), index=IndexOptions(dtype="i8", pca=2))
    costs = rows(study, "scaling_costs", "index NOT LIKE '%-tuned'")
    found = {(row.encoder, row.index): row.dtype for row in costs.itertuples(index=False)}
    assert found["pixels32", "hnsw"] == "bf16"
    assert found["two", "hnsw"] == found["pixels32", "poor"] == "i8"
    with pytest.raises(UserError, match=r"samples of pixels32 by exact were studied with --k 1, now 1,3"):
        asked(study, ["two"], sizes=(40,), ks=(1, 3))


def test_nothing_is_deleted_before_everything_is_known_to_be_possible(study):
    asked(study, sizes=(10, 20))
    before, run = names(study), study.run_of("scaling")
    wrong = [
        ({"encoders": ["pixls32"]}, "nearest: 'pixels32'"),
        ({"sizes": (10, 5_000)}, "--sizes 5,000: the gallery of pixels32 has 90 embedded images"),
        ({"index": IndexOptions(pca=99)}, "--pca 99; the vectors of pixels32 have 6 numbers"),
        ({"sizes": (3, 10)}, r"-k 4 is larger than the smallest sample \(3 images\)"),
        ({"queries": "split = 'val'"}, "the queries is empty"),
    ]
    for change, message in wrong:
        options = {"sizes": (10, 20), "k": 4, "overwrite": True} | change
        with pytest.raises(UserError, match=message):
            asked(study, **options)
    assert (names(study), study.run_of("scaling")) == (before, run)


def test_the_commands_are_those_of_the_samples_that_are_there(study):
    add_embeddings(study, list(VECTORS), VECTORS, encoder="two")
    one, two, more = (["study", "index-size", "--encoder", name] for name in ("pixels32", "two", "more"))
    asked(study, sizes=(10, 20), words=one)
    time.sleep(1.1)  # run.json tells seconds
    asked(study, ["two"], sizes=(10, 20), words=two, overwrite=True)
    assert study.run_of("scaling")["commands"] == [one, two], "nothing was replaced"
    asked(study, sizes=(10, 20), words=one)
    assert study.run_of("scaling")["commands"] == [two, one]
    asked(study, sizes=(10, 20), ks=(1, 3), words=more, overwrite=True)
    assert study.run_of("scaling")["commands"] == [more]


def test_one_encoder_by_two_names_is_one(tmp_path, ray_session):
    study = make_study(tmp_path / "study", ROWS, VECTORS, encoder="net@64~random0")
    said = asked(study, ["net", "net@64~random0"], sizes=(10, 20))
    assert names(study) == {f"net@64~random0/exact/random-s0-n{size}" for size in (10, 20)}
    assert len(rows(study, "scaling_costs")) == 2
    assert sum("net@64~random0 exact" in line for line in said) == 2


def test_two_runs_of_one_encoder_take_turns(study, capsys):
    """The second would delete the exact neighbors that the first one's tasks have still to read."""
    said: list[str] = []
    run = threading.Thread(
        target=lambda: said.extend(asked(study, sizes=(10, 20), sampling="patient")), name="index-size"
    )
    with held(study, "scaling_cells", "pixels32"):
        run.start()
        told = ""
        while "waiting until it has finished" not in told and run.is_alive():
            time.sleep(0.05)
            told += capsys.readouterr().err
        time.sleep(0.3)
        assert not study.exists("scaling")
        assert run.is_alive()
    run.join(timeout=120)
    assert told.startswith("scaling_cells/pixels32 is held by process ")
    assert names(study) == {f"pixels32/exact/patient-s0-n{size}" for size in (10, 20)}
    assert said


def test_samples_of_other_vectors_are_left_out_and_that_is_said(study):
    add_embeddings(study, list(VECTORS), VECTORS, encoder="two")
    asked(study, ["pixels32", "two"], sizes=(10, 20))
    for name in ("pixels32", "two"):
        run = study.run_of("embeddings", f"encoder={name}")
        study.write_json(run | {"fingerprint": "another"}, "embeddings", f"encoder={name}", "run.json")
    said = asked(study, sizes=(20,), ks=(1, 3))  # what is older than the vectors asks nothing any more
    assert (
        "3 samples of pixels32, two are older than its embeddings or the manifest, and are left out; study their sizes again"
        in said
    )
    assert rows(study, "scaling")[["encoder", "sample_size"]].drop_duplicates().to_numpy().tolist() == [
        ["pixels32", 20]
    ]
    assert names(study) == {"pixels32/exact/random-s0-n20", "two/exact/random-s0-n10", "two/exact/random-s0-n20"}


# --- how deep


def test_depths_follow_the_smallest_sample_the_gallery_and_what_is_there(study):
    default = {"k": None, "seeds": 1}
    asked(study, sizes=(None,), **default)
    depth = {run["parameters"]["depth"] for _, run in cells(study)}
    assert depth == {90}, "as many as the gallery has"
    with pytest.raises(
        UserError, match=r"have 90 neighbors a query, and the smallest of these 20 images; .* -k 20 with --overwrite"
    ):
        asked(study, sizes=(20, 40), **default)
    asked(study, sizes=(20, 40), overwrite=True, **default)
    assert {run["parameters"]["depth"] for _, run in cells(study)} == {20}
    said = asked(study, sizes=(40, 80), **default)
    assert "1 of 2 samples are done already" in said
    assert {run["parameters"]["depth"] for _, run in cells(study)} == {20}
    asked(study, sizes=(60,), gallery="split <> 'test'", overwrite=True, **default)
    assert {run["parameters"]["depth"] for _, run in cells(study)} == {60}, "what is replaced says nothing"
    asked(study, sizes=(20, 40), overwrite=True, **default)
    with pytest.raises(UserError, match="--k 30: each query has 20 neighbors"):
        asked(study, sizes=(40, 80), **default | {"ks": (1, 30)})


# --- samples that hold little


def test_sizes_within_one_patient_are_no_curve(tmp_path, ray_session):
    """All sizes come to the one patient that the gallery has: equal figures foretell nothing."""
    all_of_one = collection(patient=lambda i, split: "giant" if split == "train" else f"q{i}")
    study = make_study(tmp_path / "study", *all_of_one)
    said = asked(study, sizes=(10, 20, 40, 80), sampling="patient", resamples=100, seeds=2)
    assert set(rows(study, "scaling")["gallery_size"]) == {90}
    assert len(rows(study, "fits")) == 0
    assert not any("expected at" in line for line in said)


def test_a_macro_curve_has_no_point_at_which_a_class_is_gone(tmp_path, ray_session):
    """A class of 1 query in 100, which the smallest sample has no image of."""
    collected, vectors = collection(400)
    for i in (3, *range(4, 32, 4)):  # a query and seven images of the gallery
        collected[i]["labels"] = ["rare"]
    study = make_study(tmp_path / "study", collected, vectors)
    asked(study, sizes=(20, 40, 80, 160, None))
    where = "relevance = 'label' AND metric = 'precision_at_k' AND slice_by = 'all'"
    gone = rows(study, "vanished", "relevance = 'label' AND label LIKE '%rare' AND is_gone")
    assert 0 < len(gone) < 5
    fitted = rows(study, "fits", f"{where} AND NOT is_extrapolation").groupby("average")["gallery_size"].agg(set)
    assert fitted["micro"] == {20, 40, 80, 160, 300}
    assert fitted["macro"] == fitted["micro"] - set(gone["sample_size"])


def test_an_index_that_has_nothing_to_find_has_no_recall(tmp_path, ray_session):
    """Every image is of the queries' one patient, and is passed over: not a recall of 1, but none."""
    study = make_study(tmp_path / "study", *collection(patient=lambda i, split: "p"))
    options = {"sizes": (20, 40), "exclude_same": ("patient_id",)}
    with pytest.raises(
        Exception, match=r"no query has an exact neighbor in a sample of (20|40) images, so that an index"
    ):
        asked(study, indexes=("hnsw",), **options)
    asked(study, **options)
    assert set(rows(study, "scaling", "metric = 'precision_at_k'")["value"]) == {0}


# --- threads


def test_an_index_of_a_sample_is_tuned_with_the_threads_of_its_task(tmp_path, monkeypatch):
    """Each call of the graph's own walk, which is done: none of them with all cores."""
    study = make_study(tmp_path / "study", ROWS, VECTORS)
    vectors, walk, threads = Vectors(study, "pixels32"), opened.walk, []

    def told(*arguments, **options):
        threads.append(options["threads"])
        return walk(*arguments, **options)

    monkeypatch.setattr(opened, "walk", told)
    keys = vectors.keys(
        np.sort(duckdb.sql(f"SELECT image_key FROM '{study.path('manifest')}/*.parquet'").fetchnumpy()["image_key"])
    )
    options = ScalingOptions(sizes=(60,), **SMALL)
    found = list(
        walk_sample(
            vectors, keys[:60], keys[60:], exclusion_codes(study, ()), wanted=("hnsw", "hnsw-tuned"), options=options
        )
    )
    assert [each.index for each in found] == ["hnsw", "hnsw-tuned"]
    assert len(threads) > 2
    assert set(threads) == {1}


# --- what a person is told


@pytest.mark.parametrize("score, head", [("precision_at_k_capped", "precision_at_k_capped@1 micro"), ("average_precision", "average_precision micro")])  # fmt: skip
def test_the_table_is_of_the_figure_that_was_asked_for(study, score, head):
    said = asked(study, sizes=(10, 20, 40), scores=(score,))
    (line,) = [line for line in said if "micro" in line]
    assert head in line
    lines = [line for line in said if line.startswith("pixels32 exact  ")]
    means = rows(
        study, "scaling", f"metric = '{score}' AND relevance = 'label' AND slice_by = 'all' AND average = 'micro'"
    )
    assert [line.split()[3:5] for line in lines] == [
        [str(row.gallery_size), f"{row.value:.4f}"] for row in means.sort_values("gallery_size").itertuples()
    ]
    assert any(f"pixels32 exact, random: {head.removesuffix(' micro')} = " in line for line in said)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--sizes", "10,20", "-k", "0"], "-k 0; expected 1 to 10,000"),
        (["--sizes", "10,20", "-k", "33000"], "-k 33000; expected 1 to 10,000"),
        (["--sizes", "10,20"], "--k 10: each query has 5 neighbors, as many as the samples that are there have"),
        (["--sizes", "10,20", "--k", "1", "--resamples", "200"], "were studied with --resamples 0, now 200"),
        (["--sizes", "10,20", "--encoder", "pixls32"], "no embeddings of encoder 'pixls32' in the study; nearest: 'pixels32'"),
        (["--sizes", "few"], "'few' is not a list of sizes"),
        (["--sizes", "10", "--metric", "cosine"], "--metric"),
        (["--sizes", "10", "--gallery", "split = 'val'"], "the gallery is empty: split = 'val' selects none of the manifest's 120 images"),
        (["--sizes", "10", "--gallery", "wrong = 1"], "no column 'wrong' in the manifest"),
    ],
)  # fmt: skip
def test_misuse_of_the_command_is_one_line(made, capsys, flags, said):
    code = _left(["study", "index-size", "--study", made.address, "--encoder", "pixels32", *flags])
    text = capsys.readouterr().err.strip()
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory, ray_session) -> Study:
    study = make_study(tmp_path_factory.mktemp("made") / "study", ROWS, VECTORS)
    asked(study, sizes=(10, 20))
    return study


def _left(arguments: list[str]) -> int | str | None:
    try:
        return main(arguments)
    except SystemExit as left:  # the parser's own
        return left.code


@pytest.mark.parametrize(
    "change, said",
    [
        ({"k": 0}, "-k 0; expected 1 to 10,000"),
        ({"k": 10_001}, "-k 10001; expected 1 to 10,000"),
        ({"metric": "cosine"}, "--metric cosine; expected one of: cos, ip, l2"),
        ({"ks": ()}, "--k names no depth; expected one or more"),
        ({"scores": ()}, "--score names none"),
    ],
)
def test_options_that_cannot_be_are_refused(made, change, said):
    with pytest.raises(UserError, match=said):
        asked(made, sizes=(10, 20), **change)
