"""--paper: LaTeX tables that compile, hold the published figures in full, and ours only beside what they can be compared with."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.cli import main
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.paper import write_paper
from cbmir.paper.tex import Table, document, escape, render
from cbmir.references import published
from cbmir.schemas import FITS, IMAGE_SIZES, METRICS
from cbmir.search import SearchOptions, search
from cbmir.store import Study, path_name, run_record
from tests.latex import argument, check, parse
from tests.studies import add_embeddings, make_study

METRIC_OF = {
    "mAP@5": ("average_precision_over_hits_at_k", 5),
    "mMV@5": ("majority_vote_at_k", 5),
    "ACC@1": ("hit_rate_at_k", 1),
    "ACC@3": ("hit_rate_at_k", 3),
    "ACC@5": ("hit_rate_at_k", 5),
}
CLASSES = ["US/breast/malignant", "US/breast/normal, benign"]
SPLITS = {"train": 546, "val": 78, "test": 156}
EVIL = r"a_b%c&d#e$f{g}h~i^j\k<l>|m"


def breast(stem: str = "breastmnist", *, splits: dict[str, int] = SPLITS, dataset: str | None = None) -> list[dict]:
    rows = []
    for split, count in splits.items():
        for i in range(count):
            uri = f"data/{stem}.npz#array={split}_images&row={i}"
            rows.append({"image_id": f"{stem}/{split}/{i}", "uri": uri, "dataset": dataset or stem, "split": split})
            rows[-1] |= {"labels": [CLASSES[i % 3 == 0]], "modality": "US", "region": "breast"}
    return rows


def embedded(study: Study, rows: list[dict], name: str, *, seed: int, asked: str | None = None, **record) -> None:
    """Vectors in which the classes lie a little apart, as an encoder that was asked for as `asked` leaves them."""
    rng = np.random.default_rng(seed)
    of = {r["image_id"]: rng.normal(size=8) + 1.2 * np.eye(8)[CLASSES.index(r["labels"][0])] for r in rows}
    add_embeddings(study, [r["image_id"] for r in rows], of, encoder=path_name(name))
    place = ("embeddings", f"encoder={path_name(name)}")
    spec = resolve(asked or name).as_dict()
    study.write_json(study.run_of(*place) | {"spec": spec} | record, *place, "run.json")


def scored(study: Study, *encoders: str, **options) -> None:
    for encoder in encoders:
        search(study, encoder, "exact", SearchOptions(k=5, **options))
    evaluate(study, EvaluateOptions(resamples=100, permutations=100), say=lambda line: None)


def tables(study: Study, **options) -> dict[str, str]:
    """Files of paper/ by name without suffix."""
    write_paper(study, say=lambda line: None, **options)
    files = study.files("paper", suffix=".tex")
    return {
        file.rsplit("/", 1)[1].removesuffix(".tex"): study.read_text("paper", file.rsplit("/", 1)[1]) for file in files
    }


def bare(cell: str) -> str:
    """A cell without marks of notes and small print."""
    return re.sub(r"\\textsuperscript\{[^}]*\}|\{\\footnotesize.*\}", "", cell).strip()


def sets_table(text: str) -> dict[tuple[int, str], dict[str, tuple[str, str, str]]]:
    """(size, encoder) -> metric -> (published, ours, difference), as printed."""
    parsed = parse(text)
    names = [head for head in parsed.heads[0][2:] if head]
    found, size = {}, 0
    for row in parsed.rows:
        size = int(row[0]) if row[0] else size
        cells = [bare(cell) for cell in row[2:]]
        found[size, bare(row[1])] = {name: tuple(cells[3 * i : 3 * i + 3]) for i, name in enumerate(names)}
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """BreastMNIST at 28 pixels with two encoders of the paper and one of nobody's."""
    rows = breast()
    study = make_study(tmp_path_factory.mktemp("paper") / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    embedded(study, rows, "mine", seed=2, asked="mine=vgg19")
    embedded(study, rows, "uni", seed=3, asked="uni=pixels32")  # an alias says nothing of who it is
    scored(study, "biomedclip", "mine", "uni")
    return study


def test_every_published_figure_of_the_set_stands_in_its_table(study):
    found = sets_table(tables(study)["mahbod2024_breastmnist"])
    theirs = published().to_pandas().query("paper == 'mahbod2024' and dataset == 'BreastMNIST'")
    assert len(found) == 4 * 9
    for row in theirs.itertuples():
        shown = found[int(row.image_size), row.encoder][row.printed_metric][0]
        assert shown == ("--" if pd.isna(row.value) else f"{100 * row.value:.2f}")
    notes = parse(tables(study)["mahbod2024_breastmnist"]).notes
    assert "printed as 1.00: printed so; means 100.00 (156/156)" in notes
    assert r"row absent from Table S.2" in notes


def test_ours_stand_only_beside_the_same_size_and_encoder(study):
    found = sets_table(tables(study)["mahbod2024_breastmnist"])
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    metrics = metrics.query("slice_by == 'all' and relevance == 'label' and average == 'micro' and index == 'exact'")
    ours = metrics.set_index(["encoder", "metric", "k"])["value"]
    theirs = published().to_pandas().query("dataset == 'BreastMNIST' and image_size == 28").set_index(["encoder", "printed_metric"])["value"]  # fmt: skip
    expected = {(28, "BiomedCLIP"): "biomedclip", (28, "VGG19"): "mine"}
    for (size, encoder), line in found.items():
        for printed, (_, value, difference) in line.items():
            if (size, encoder) not in expected:
                assert (value, difference) == ("--", "--")
                continue
            share = ours[(expected[size, encoder], *METRIC_OF[printed])]
            assert value == f"{100 * share:.2f}"
            assert float(difference) == pytest.approx(100 * (share - theirs[encoder, printed]), abs=0.0051)
    notes = parse(tables(study)["mahbod2024_breastmnist"]).notes
    assert r"published with Keras\textquotesingle{} weights" in notes
    assert "Ours: exact search by cosine distance" in notes
    assert "A dash among ours" in notes
    assert "28 pixels to 32" in notes


def test_an_independent_figure(study):
    """ACC@1 of biomedclip by numpy alone."""
    found = sets_table(tables(study)["mahbod2024_breastmnist"])
    rows = {row["image_id"]: row for row in breast()}
    table = (
        pq.read_table(study.files("embeddings", "encoder=biomedclip")).to_pandas().set_index("image_key")["embedding"]
    )
    keys = pq.read_table(study.files("manifest")).to_pandas().set_index("image_id")["image_key"]
    of = {split: [i for i in rows if rows[i]["split"] == split] for split in ("train", "test")}
    unit = {
        split: np.stack([table[keys[i]] / np.linalg.norm(table[keys[i]]) for i in ids]) for split, ids in of.items()
    }
    nearest = (unit["test"] @ unit["train"].T).argmax(axis=1)
    right = [rows[of["test"][i]]["labels"] == rows[of["train"][n]]["labels"] for i, n in enumerate(nearest)]
    assert found[28, "BiomedCLIP"]["ACC@1"][1] == f"{100 * np.mean(right):.2f}"


def ours_of(study: Study, name: str = "mahbod2024_breastmnist") -> set[tuple[int, str]]:
    """Rows of a set in which the study has figures."""
    found = sets_table(tables(study)[name])
    return {key for key, line in found.items() if any(cells[1] != "--" for cells in line.values())}


@pytest.mark.parametrize(
    "record, expected",
    [
        ({}, {(28, "BiomedCLIP")}),
        ({"random_weights": 0}, set()),
        ({"source_dim": 512}, set()),
        ({"imported": ["x.h5"], "spec": {"name": "biomedclip", "source": "imported from x.h5"}}, {(28, "BiomedCLIP")}),
    ],
)
def test_whose_vectors_they_are_is_read_from_their_run(tmp_path, record, expected):
    rows = breast()
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1, **record)
    scored(study, "biomedclip")
    assert ours_of(study) == expected
    if "imported" in record:
        assert "Ours: imported vectors." in tables(study)["mahbod2024_breastmnist"]


def test_searches_of_other_questions_stand_beside_nothing(tmp_path):
    rows = breast()
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    scored(study, "biomedclip", gallery="split <> 'test'")
    assert ours_of(study) == set()
    scored(study, "biomedclip", exclude_same=("patient_id",), overwrite=True)
    assert ours_of(study) == set()
    scored(study, "biomedclip", queries="split = 'val'", overwrite=True)
    assert ours_of(study) == set()
    scored(study, "biomedclip", overwrite=True)
    assert ours_of(study) == {(28, "BiomedCLIP")}


def test_of_two_distances_that_of_the_published_code_is_taken(tmp_path):
    rows = breast()
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    scored(study, "biomedclip")
    scored(study, "biomedclip", metric="l2", save_as="euclid")
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    value = metrics.query("index == 'euclid' and metric == 'hit_rate_at_k' and k == 1 and slice_by == 'all' and relevance == 'label' and average == 'micro'")["value"].item()  # fmt: skip
    text = tables(study)["mahbod2024_breastmnist"]
    assert sets_table(text)[28, "BiomedCLIP"]["ACC@1"][1] == f"{100 * value:.2f}"
    assert "Ours: exact search by Euclidean distance" in text


@pytest.mark.parametrize(
    "stem, splits, why",
    [
        ("breastmnist_resaved", SPLITS, r"the file\textquotesingle{}s name does not say the size"),
        ("breastmnist", {"train": 100, "test": 20}, "not as many images as were published"),
    ],
)
def test_why_a_set_has_no_figures_of_ours_is_said(tmp_path, stem, splits, why):
    rows = breast(stem, splits=splits)
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    scored(study, "biomedclip")
    assert ours_of(study) == set()
    assert why in tables(study)["mahbod2024_breastmnist"]


def test_two_sizes_in_one_study_are_told_apart_by_their_searches(tmp_path):
    rows = breast() + breast("breastmnist_64")
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    scored(study, "biomedclip")  # the gallery holds both
    assert ours_of(study) == set()
    at_64 = {
        role: f"dataset = 'breastmnist_64' AND split = '{split}'"
        for role, split in (("gallery", "train"), ("queries", "test"))
    }
    scored(study, "biomedclip", save_as="at64", **at_64)
    assert ours_of(study) == {(64, "BiomedCLIP")}


def test_images_brought_to_a_size_are_marked(tmp_path):
    rows = breast("breastmnist_224")
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    embedded(study, rows, "biomedclip-64px", seed=2, asked="biomedclip~px64")
    with study.publishing("image_sizes") as out:
        sized = [{"encoder": "biomedclip-64px", "base_encoder": "biomedclip", "image_size": 64}]
        out.write_table(pa.Table.from_pylist(sized, schema=IMAGE_SIZES), "part.parquet", "image_sizes")
        out.run = run_record("image_sizes", parameters={}, inputs={}, rows=1)
    scored(study, "biomedclip", "biomedclip-64px")
    assert ours_of(study) == {(64, "BiomedCLIP"), (224, "BiomedCLIP")}
    text = tables(study)["mahbod2024_breastmnist"]
    assert "images brought to this size from 224 pixels, not the published file of this size" in text
    marked = [row for row in parse(text).rows if any("textsuperscript" in cell for cell in row[3::3])]
    assert [bare(row[1]) for row in marked] == ["BiomedCLIP"]
    assert study.require("paper")["inputs"].keys() == {"manifest", "metrics", "image_sizes"}
    run = study.require("image_sizes")
    study.write_json(run | {"inputs": {"biomedclip-64px": "others"}}, "image_sizes", "run.json")
    assert ours_of(study) == {(224, "BiomedCLIP")}
    why = "brought to other sizes are left out: image{}sizes is older than the embeddings; make it again with: cbmir study image-{}size"
    assert why.format(r"\_", "{}") in parse(tables(study)["mahbod2024_breastmnist"]).notes
    assert study.require("paper")["inputs"].keys() == {"manifest", "metrics"}


def adrenal(tail: str) -> list[dict]:
    """Rows of AdrenalMNIST3D, of its file of 64 voxels."""
    rows = []
    for split, count in (("train", 1188), ("val", 98), ("test", 298)):
        for i in range(count):
            uri = f"adrenalmnist3d_64.npz#array={split}_images&row={i}{tail}"
            rows.append({"image_id": f"{split}/{i}", "uri": uri, "dataset": "adrenalmnist3d_64", "split": split})
            rows[-1]["labels"] = [CLASSES[i % 3 == 0]]
    return rows


def test_slices_stand_beside_nothing(tmp_path):
    rows = adrenal("&slice=0")
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "uni", seed=1)
    scored(study, "uni")
    text = tables(study)["mahbod2024_adrenalmnist3d"]
    assert all(cells[1] == "--" for line in sets_table(text).values() for cells in line.values())
    assert "each slice of a volume is an image" in text
    assert "printed as 63.67: not k/298" in text


@pytest.mark.parametrize(
    ("tail", "size", "beside"),
    [("&slice=32", 64, {(64, "UNI")}), ("&zoom=28&slice=14", 28, {(28, "UNI")}), ("&zoom=30&slice=15", 30, set())],
)
def test_volumes_stand_beside_volumes_by_their_concatenated_slices(tmp_path, tail, size, beside):
    rows = adrenal(tail)
    slices = make_study(tmp_path / "study", rows)
    study = make_study(tmp_path / "study" / "volumes", rows)
    made_of = {"stage": "volumes", "inputs": {"manifest": slices.run_of("manifest")["fingerprint"]}}
    study.write_json(study.run_of("manifest") | made_of, "manifest", "run.json")
    for number, reduction in enumerate((f"concat{size}", "concat8", "mean")):
        record = {
            "stage": "volumes",
            "parameters": {"source": "uni", "reduction": reduction},
            "inputs": {"embeddings": None},
        }
        embedded(study, rows, f"uni~{reduction}", seed=number, asked="uni", **record)
    scored(study, "uni~concat8", "uni~mean")
    assert ours_of(study, "mahbod2024_adrenalmnist3d") == set()
    scored(study, f"uni~concat{size}")
    assert ours_of(study, "mahbod2024_adrenalmnist3d") == beside
    text = tables(study)["mahbod2024_adrenalmnist3d"]
    resampled = beside and size != 64
    assert ("volumes resampled to this size from 64 voxels, not the published file of this size" in text) == bool(
        resampled
    )


def test_the_first_papers_layout(study):
    parsed = parse(tables(study)["denner2024"])
    metrics = pq.read_table(study.files("metrics")).to_pandas()
    capped = metrics.query("metric == 'precision_at_k_capped' and relevance == 'label' and slice_by == 'all'")
    capped = capped.set_index(["encoder", "average", "k"])
    ks = (1, 3, 5)  # as deep as the searches went
    seen, encoder = {}, None
    for row in parsed.rows[:-1]:
        encoder = re.sub(r"\\texttt\{(.*)\}", r"\1", bare(row[0])) or encoder
        for at, k in enumerate(ks):
            figure = capped.loc[(encoder, row[1], k)]
            assert (
                row[2 + 2 * at]
                == f"{figure['value']:.3f} {{\\footnotesize[{figure['ci_low']:.3f}, {figure['ci_high']:.3f}]}}"
            )
            assert bare(row[3 + 2 * at]) == "--"
        seen.setdefault(encoder, []).append(row[1])
    assert seen == {name: ["micro", "macro"] for name in ("biomedclip", "mine", "uni")}
    theirs = parsed.rows[-1]
    assert theirs[0] == r"BiomedCLIP \cite{denner2024}"
    assert [bare(cell) for cell in theirs[1:]] == [
        "average not stated",
        "--",
        "0.594",
        "--",
        "0.590",
        "--",
        "0.588",
        "--",
        "0.583",
    ]
    assert "of other images (NIH14, CheXpert, MIMIC and RadImageNet together)" in parsed.notes
    assert "does not say whether the mean is micro or macro" in parsed.notes


def test_the_leaderboard(study):
    from cbmir.leaderboard import ranked

    rows = ranked(study, ["biomedclip", "mine", "uni"], relevance="label", k=3)
    parsed = parse(tables(study, k=3, encoders=("biomedclip", "mine", "uni"))["leaderboard"])
    assert len(parsed.rows) == len(rows) == 3
    for line, row in zip(parsed.rows, rows, strict=True):
        assert bare(line[1]) == rf"\texttt{{{row['encoder']}}}"
        assert (
            line[2]
            == f"{100 * row['value']:.1f} {{\\footnotesize[{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]}}"
        )
        assert (r"\textsuperscript{=}" in line[1]) == (row["differs"] is False)
        assert line[9] == ("" if row["is_best"] else f"{row['p_value']:.4f}")
        assert bare(line[8]) == ("best" if row["is_best"] else f"${100 * row['difference']:+.1f}$")
    assert "correction over 3 tests" in parsed.notes


def scaling_rows(encoder: str, *, seeds: int, sizes: tuple[int, ...], sampling: str = "random") -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for size in sizes:
            for average in ("micro", "macro"):
                for k in (1, 2, 5):
                    off = seed if sampling == "patient" else 0  # whole patients: sizes differ a little
                    row = {
                        "encoder": encoder,
                        "index": "exact",
                        "metric": "precision_at_k",
                        "relevance": "label",
                        "k": k,
                    }
                    row |= {"slice_by": "all", "slice": "all", "average": average, "value": rng.uniform(0.2, 0.8)}
                    row |= {
                        "n_queries": 10,
                        "n_failed": 0,
                        "n_unanswerable": 0,
                        "n_patients": 10,
                        "gallery_size": size + off,
                    }
                    rows.append(row | {"sampling": sampling, "seed": seed, "sample_size": size, "n_vanished": 0})
    return rows


def with_scaling(study: Study, rows: list[dict], fits: list[dict]) -> Study:
    for dataset, schema, found in (("scaling", METRICS, rows), ("fits", FITS, fits)):
        with study.publishing(dataset) as out:
            out.write_table(pa.Table.from_pylist(found, schema=schema), "part.parquet", dataset)
            out.run = run_record(dataset, parameters={}, inputs={}, rows=len(found))
    return study


def fit(encoder: str, **more) -> dict:
    row = {
        "encoder": encoder,
        "index": "exact",
        "sampling": "random",
        "metric": "precision_at_k",
        "relevance": "label",
        "k": 1,
    }
    row |= {
        "slice_by": "all",
        "slice": "all",
        "average": "micro",
        "model": "power",
        "is_chosen": True,
        "parameters": [1.0, 1.0, 1.0],
    }
    row |= {"rmse": 0.01, "gallery_size": 5000, "value": 0.7, "ci_low": 0.65, "ci_high": 0.75, "is_extrapolation": True}
    return row | {"n_sizes": 3, "n_seeds": 3} | more


@pytest.mark.parametrize("sampling", ["random", "patient"])
def test_index_sizes_are_means_over_seeds_with_extrapolations_marked(tmp_path, sampling):
    study = make_study(tmp_path / "study", [{"image_id": "a"}])
    rows = scaling_rows(EVIL, seeds=3, sizes=(1000, 2000), sampling=sampling)
    others = [fit(EVIL, gallery_size=2000, is_extrapolation=False, value=0.1), fit(EVIL, is_chosen=False, value=0.2)]
    with_scaling(study, rows, [fit(EVIL, sampling=sampling), *others])
    parsed = parse(tables(study)["index_size"])
    assert parsed.heads[1] == ["gallery", "samples", "P@1", "P@5", "P@1", "P@5"]
    title, *lines, last = parsed.rows
    assert escape(EVIL) in title[0]
    frame = pd.DataFrame(rows)
    for size, line in zip((1000, 2000), lines, strict=True):
        mine = frame[frame["sample_size"] == size]
        assert line[:2] == [f"{round(mine['gallery_size'].mean()):,}", "3"]
        columns = [(average, k) for average in ("micro", "macro") for k in (1, 5)]
        for (average, k), cell in zip(columns, line[2:], strict=True):
            values = 100 * mine[(mine["average"] == average) & (mine["k"] == k)]["value"]
            assert cell == f"{values.mean():.1f} {{\\footnotesize$\\pm$ {values.std():.1f}}}"
    assert [bare(cell) for cell in last] == ["5,000", "--", r"\textit{70.0}", "--", "--", "--"]
    assert "[65.0, 75.0]" in last[2]
    assert r"\textsuperscript{e}" in last[0]
    assert "Extrapolated from the smaller sizes" in parsed.notes


def test_a_seed_that_lacks_a_size_moves_no_other(tmp_path):
    """As where a small sample loses every query, or seeds are added later without the small sizes."""
    value = {10: 0.1, 1000: 0.9, 2000: 0.5}
    rows = [row | {"value": value[row["sample_size"]]} for row in scaling_rows("a", seeds=3, sizes=tuple(value))]
    rows = [row for row in rows if (row["seed"], row["sample_size"]) not in {(1, 10), (2, 1000)}]
    study = with_scaling(make_study(tmp_path / "study", [{"image_id": "a"}]), rows, [])
    _, *lines = parse(tables(study)["index_size"]).rows
    assert [[bare(cell) for cell in line] for line in lines] == [
        ["10", "2", *["10.0"] * 4],
        ["1,000", "2", *["90.0"] * 4],
        ["2,000", "3", *["50.0"] * 4],
    ]


def test_one_sample_has_no_spread_and_no_extrapolation_no_note(tmp_path):
    study = with_scaling(
        make_study(tmp_path / "study", [{"image_id": "a"}]), scaling_rows("a", seeds=1, sizes=(10,)), []
    )
    parsed = parse(tables(study)["index_size"])
    assert "pm" not in "".join(parsed.rows[1])
    assert "Extrapolated" not in parsed.notes


def test_samples_that_are_the_whole_gallery_have_no_spread_and_are_marked(tmp_path):
    rows = scaling_rows("a", seeds=3, sizes=(10, 20))
    rows = [row | {"value": 0.5} if row["gallery_size"] == 20 else row for row in rows]
    study = with_scaling(make_study(tmp_path / "study", [{"image_id": "a"}]), rows, [])
    _, sampled, whole = parse(tables(study)["index_size"]).rows
    assert sampled[:2] == ["10", "3"]
    assert all("pm" in cell for cell in sampled[2:])
    assert whole == ["20", r"3\textsuperscript{s}", *["50.0"] * 4]
    assert "Samples that are all the same" in tables(study)["index_size"]


def test_exact_searches_are_found_by_whatever_name_they_are_stored(tmp_path):
    rows = breast(splits={"train": 60, "test": 30})
    study = make_study(tmp_path / "study", rows)
    for seed, name in enumerate(("biomedclip", "mine", "other")):
        embedded(study, rows, name, seed=seed, asked=f"{name}=pixels32")
    scored(study, "biomedclip", "mine", save_as="stored")
    made = tables(study)
    assert {bare(row[1]) for row in parse(made["leaderboard"]).rows} == {r"\texttt{biomedclip}", r"\texttt{mine}"}
    assert "correction over 1 test " in made["leaderboard"]
    assert {bare(row[0]) for row in parse(made["denner2024"]).rows[:-1]} == {
        "",
        r"\texttt{biomedclip}",
        r"\texttt{mine}",
    }
    scored(study, "other", gallery="image_id LIKE '%train/1%'")
    asked = parse(tables(study, encoders=("mine", "other", "biomedclip"))["leaderboard"])
    assert {bare(row[1]) for row in asked.rows} == {r"\texttt{biomedclip}", r"\texttt{mine}"}
    assert r"no exact search of theirs asks this question: \texttt{other}." in asked.notes


def test_that_there_is_no_exact_search_is_the_reason_where_it_is(tmp_path):
    from tests.test_report import make_study as with_searches

    with pytest.raises(UserError, match=r"none of them of an exact search; .* cbmir search --index exact") as told:
        write_paper(with_searches(tmp_path, indexes=("hnsw",)))
    assert "precision_at_k_capped" not in str(told.value)


def test_what_cannot_be_made_is_said_and_nothing_at_all_is_refused(study, tmp_path):
    lines = []
    write_paper(study, say=lines.append)
    assert (
        lines[0]
        == "paper: no table index_size: the study has no samples of its gallery; make them with: cbmir study index-size"
    )
    assert lines[-1].endswith("paper.tex with leaderboard, denner2024, mahbod2024_breastmnist")
    empty = make_study(tmp_path / "study", [{"image_id": "a"}])
    with pytest.raises(
        UserError,
        match=r"no table can be made of the study .*: the study has no figures; make them with: cbmir evaluate; the study has no samples",
    ):
        write_paper(empty)
    assert not empty.exists("paper")


def test_figures_older_than_the_searches_are_refused(tmp_path):
    rows = breast()
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "biomedclip", seed=1)
    scored(study, "biomedclip")
    search(study, "biomedclip", "exact", SearchOptions(k=4, overwrite=True))
    with pytest.raises(UserError, match="the metrics are older than the neighbors of biomedclip by exact"):
        write_paper(study)


def test_the_commands_write_it_whole(tmp_path, capsys):
    rows = breast(splits={"train": 60, "test": 30}, dataset=EVIL.replace("\\", ""))
    study = make_study(tmp_path / "study", rows)
    embedded(study, rows, "pixels32", seed=1)
    embedded(study, rows, "weird,name=é中", seed=2, asked="pixels32")
    assert main(["study", "encoders", "--study", study.address, "--paper", "--k", "5"]) == 0
    assert "P@5" in study.read_text("paper", "leaderboard.tex")
    study.write_bytes(b"old", "paper", "gone.tex")
    assert main(["report", "--study", study.address, "--paper"]) == 0
    assert "paper.tex with leaderboard" in capsys.readouterr().out
    assert not study.exists("paper", "gone.tex")
    assert "P@1" in study.read_text("paper", "leaderboard.tex")
    assert study.run_of("paper")["inputs"]["metrics"] == study.run_of("metrics")["fingerprint"]
    for file in study.files("paper", suffix=".tex"):
        check(study.read_text("paper", file.rsplit("/", 1)[1]))
    assert r"weird,name=éU+4E2D" in study.read_text("paper", "leaderboard.tex")
    compiled(study.path("paper"), tmp_path)


def test_the_document_shows_every_table_and_cites_every_paper(study):
    files = tables(study)
    shown = re.findall(r"\\input\{(\w+)\}", files["paper"])
    assert set(shown) == set(files) - {"paper"}
    bibliography = study.read_text("paper", "references.bib")
    cited = {key for text in files.values() for key in re.findall(r"\\cite\{(\w+)\}", text)}
    assert cited <= set(re.findall(r"@\w+\{(\w+),", bibliography))
    assert json.loads(study.read_text("paper", "run.json"))["rows"] == len(shown)


def compiled(directory: str, tmp_path) -> None:
    """pdflatex and bibtex take the document without an error or a warning, where they are there; else the checks of structure must do."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return
    where = tmp_path / "tex"
    shutil.copytree(directory, where)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        done = subprocess.run(
            command, cwd=where, capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search(r"Warning|Overfull|Missing character", done.stdout), done.stdout


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex: the structure of the tables is checked all the same"
)
def test_the_tables_compile(study, tmp_path):
    with_scaling(study, scaling_rows(EVIL, seeds=2, sizes=(10, 20)), [fit(EVIL)])
    try:
        write_paper(study, say=lambda line: None)
        compiled(study.path("paper"), tmp_path)
    finally:
        study.delete("scaling")
        study.delete("fits")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_escaped(text):
    table = Table(
        "t", escape(text), "ll", [[("a", 1), ("b", 1)]], [[escape(text), "1"], None, escape(text)], {"a": escape(text)}
    )
    parsed = parse(render(table))
    assert parsed.rows[0][1] == "1"
    assert parsed.caption == escape(text)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("ÀÿĀăĄćĐđĒŁłŃŊŒŞŠŢŻž", "ÀÿĀăĄćĐđĒŁłŃŊŒŞŠŢŻž"),
        ("ĦħĸŦŧſŉĿŀ", "U+0126U+0127U+0138U+0166U+0167U+017FU+0149U+013FU+0140"),
    ],
)
def test_letters_that_the_fonts_lack_stand_there_by_their_codes(text, shown):
    assert escape(text) == shown


def test_the_checker_sees_what_is_wrong():
    good = render(Table("t", "caption", "lr", [[("a", 1), ("b", 1)]], [["x", "1"]], {}))
    check(good)
    check(document(["t"]))
    for bad in (
        good.replace("x & 1", "x"),
        good.replace("x & 1", "x & 1 & 2"),
        good.replace("x & 1", "x_y & 1"),
        good.replace("x & 1", r"\textbf{x & 1"),
        good.replace(r"\end{table}", ""),
        good.replace("x & 1", "50% & 1"),
        good.replace("x & 1", "中 & 1"),
    ):
        with pytest.raises(AssertionError):
            parse(bad)
    assert argument("a{b{c}d}e", 1) == ("b{c}d", 8)
