"""Images at several sizes: the pixels against Pillow, the names, the study's figures against plain loops, a kill in the middle, and misuse."""

import csv
import itertools
import random
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.datasets.medmnist_sets import same_images
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.source import packed_for
from cbmir.encoders.build import build
from cbmir.encoders.names import detailed, parse_name, without_detail
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.image_sizes import study_image_size
from cbmir.images.errors import ImageError
from cbmir.images.geometry import Geometry, apply, reduction
from cbmir.images.read import read_pixels
from cbmir.schemas import check
from cbmir.search import SearchOptions, search
from cbmir.sizing.options import ImageSizeOptions
from cbmir.sizing.question import question
from cbmir.store import Study
from cbmir.vectors import Vectors, find_encoder
from tests.processes import cbmir, killed_when, outcome
from tests.studies import add_embeddings, make_study

NET = "timm:test_resnet~random0"


def picture(width: int, height: int, *, grey: bool, seed: int = 0) -> np.ndarray:
    shape = (height, width) if grey else (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run_jsons(study: Study, dataset: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path(study.path(dataset)).rglob("run.json")}


# --- pixels


@pytest.mark.parametrize("mode", ["squash", "short_side", "long_side", "long_side_corner", "pad_square"])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("detail", [8, 28, 200])
def test_detail_is_a_resize_before_the_encoders_own(mode, grey, detail):
    """By Pillow alone: to a square of `detail`, then what the same geometry makes of such an image."""
    pixels = picture(90, 60, grey=grey)
    small = np.asarray(Image.fromarray(pixels).resize((detail, detail), Image.Resampling.BICUBIC))
    for takes_grey in (True, False):
        own = Geometry(48, mode=mode, resize=56, grey=takes_grey)
        if takes_grey and not grey:
            continue  # luminance is taken before: the next test
        shown = Geometry(48, mode=mode, resize=56, grey=takes_grey, detail=detail)
        assert np.array_equal(apply(shown, pixels), apply(own, small))


def test_luminance_is_taken_before_the_first_resize():
    pixels = picture(90, 60, grey=False)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(
        apply(Geometry(32, grey=True, detail=28), pixels), apply(Geometry(32, grey=True, detail=28), grey)
    )


def test_what_is_finer_than_the_size_is_averaged():
    """A board of single pixels is grey at a quarter of its size, as antialias has it; taking every fourth pixel would leave one color."""
    board = ((np.indices((112, 112)).sum(axis=0) % 2) * 255).astype(np.uint8)
    seen = apply(Geometry(28, mode="squash", grey=True, detail=28), board)
    assert np.all(np.abs(seen.astype(int) - 127) <= 2)


def test_jpeg_is_decoded_whole():
    """Decoded small, an image of 28 pixels would depend on what else is embedded in the same pass."""
    own = Geometry(32)
    assert reduction((1024, 1024), [own]) == 8
    assert reduction((1024, 1024), [Geometry(32, detail=28)]) == 1
    assert reduction((1024, 1024), [own, Geometry(32, detail=28)]) == 1


def test_images_as_they_are_keep_their_fingerprint():
    """Studies that are older than sizes of images go on."""
    spec = resolve("pixels32")
    assert "detail" not in spec.as_dict()["geometry"]
    assert "detail" not in spec.geometry.as_dict()
    prints = {
        name: resolve(name).fingerprint("none", "float32") for name in ("pixels32", "pixels32~px28", "pixels32~px64")
    }
    assert prints["pixels32"] == "7615b0d45a0dba21"
    assert len(set(prints.values())) == 3
    again = type(spec).from_dict(resolve("pixels32~px28").as_dict())
    assert (again.geometry.detail, again.asked) == (28, "pixels32~px28")


# --- names


@given(
    st.sampled_from(["pixels32", "timm:vit_tiny", "open_clip:ViT-B-32/laion2b_s34b@v2"]),
    st.sampled_from(["", "m="]),
    st.sampled_from(["", "@64"]),
    st.sampled_from(["", "~random0", "~random17"]),
    st.integers(8, 4096),
)
def test_a_name_at_a_size_and_back(base, alias, size, seed, detail):
    name = f"{alias}{base}{size}{seed}"
    shown = detailed(name, detail)
    assert shown == f"{alias}{base}{size}~px{detail}{seed}"
    parsed = parse_name(shown)
    assert (parsed.detail, parsed.base) == (detail, base)
    assert parse_name(without_detail(shown)) == parse_name(name)
    assert without_detail(parsed.canonical) == parse_name(name).canonical
    with pytest.raises(UserError, match=f"says ~px{detail} itself"):
        detailed(shown, 28)


@pytest.mark.parametrize("name", ["pixels32~px0", "pixels32~px", "pixels32~px28~px64", "pixels32~random0~px28"])
def test_a_size_that_does_not_parse(name):
    with pytest.raises(UserError, match="does not parse"):
        resolve(name)


@pytest.mark.parametrize("name", ["pixels32~px7", "pixels32~px4097"])
def test_a_size_that_cannot_be(name):
    with pytest.raises(UserError, match="expected 8 to 4096 pixels"):
        resolve(name)


def test_a_size_is_only_meant_where_it_is_named(tmp_path):
    rows = [{"image_id": "a/1"}]
    study = make_study(tmp_path / "study", rows, {"a/1": np.ones(4)}, encoder="net@64~random0")
    for name in ("net@64~px28~random0", "net@64~px64~random0"):
        study.fs.create_dir(study.path("embeddings", f"encoder={name}"))
    assert find_encoder(study, "net") == "net@64~random0"
    assert find_encoder(study, "net@64~px28~random0") == "net@64~px28~random0"


def test_files_of_one_set_at_several_sizes():
    assert same_images(["breastmnist_224", "BreastMNIST", "breastmnist_64", "pneumoniamnist"]) == [
        "BreastMNIST",
        "breastmnist_64",
        "breastmnist_224",
    ]
    assert same_images(["breastmnist_28", "pneumoniamnist_64", "hand", "mine_64", "mine_28"]) == []


# --- vectors


@pytest.fixture(scope="module")
def collection(phantoms, tmp_path_factory, ray_session) -> Study:
    """The drawn images at two sizes, by pixels and by a small network, embedded in one pass."""
    study = Study(str(tmp_path_factory.mktemp("sizes") / "study"))
    write_manifest(study, "phantoms", [str(phantoms)], Options())
    names = [detailed(name, size) for name in ("pixels32", NET) for size in (28, 1000)]
    embed(study, [*names, "pixels32"], EmbedOptions(device="cpu"), say=lambda line: None)
    return study


@pytest.mark.parametrize("name", ["pixels32", "pixels32~px28", "pixels32~px1000", "timm:test_resnet~px28~random0"])
def test_vectors_are_those_of_the_pixels(collection, name):
    """Image by image, with an encoder of its own: several sizes share one network, and no one another's pixels."""
    manifest = pq.read_table(collection.files("manifest")[0]).to_pylist()
    keys, vectors = Vectors(collection, name).load(np.array(sorted(row["image_key"] for row in manifest)))
    uris = {row["image_key"]: row["uri"] for row in manifest}
    model = build(resolve(name))
    for at in random.Random(3).sample(range(len(keys)), 12):
        alone = model.encode(apply(model.spec.geometry, read_pixels(uris[int(keys[at])]))[None])[0]
        assert np.allclose(alone, vectors[at], atol=1e-4, rtol=1e-3)


def test_sizes_are_told_apart_and_embedded_in_one_pass(collection):
    runs = {
        name: collection.run_of("embeddings", f"encoder={name.replace(':', '%3A')}")
        for name in collection.names("embeddings")
    }
    assert len({run["fingerprint"] for run in runs.values()}) == 5
    started = {
        collection.read_json("embeddings", f"encoder={name.replace(':', '%3A')}", "started.json")["attempt"]
        for name in runs
    }
    assert len(started) == 1
    attempt = runs["pixels32~px28"]["last_attempt"]
    assert set(attempt["seconds_by"]["forward"]) == set(runs)
    forward = attempt["seconds_by"]["forward"]
    assert (
        forward["timm:test_resnet~px28~random0"] == forward["timm:test_resnet~px1000~random0"] > 0
    )  # one network: halves


def test_images_that_are_smaller_are_counted(collection, phantoms):
    sizes = []
    for row in pq.read_table(collection.files("manifest")[0]).to_pylist():
        try:
            sizes.append(min(read_pixels(row["uri"]).shape[:2]))
        except ImageError:  # the broken one
            continue
    enlarged = collection.run_of("embeddings", "encoder=pixels32~px28")["last_attempt"]["enlarged"]
    assert enlarged == {"1000": sum(size < 1000 for size in sizes)}
    assert enlarged["1000"] > 0


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_query_shrinks_an_image_as_the_study_did(collection, capsys, suffix):
    """The image itself, at distance 0: alone it is decoded and shrunk as it was beside other sizes."""
    rows = pq.read_table(collection.files("manifest")[0]).to_pylist()
    row = next(row for row in rows if row["split"] == "train" and row["uri"].endswith(suffix))
    for encoder in ("pixels32~px28", "timm:test_resnet~px28~random0"):
        assert main(["query", "--study", collection.address, "--encoder", encoder, row["uri"], "-k", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if row["image_id"] in line and "0.0000" in line], lines


# --- the study


@pytest.fixture(scope="module")
def studied(phantoms, tmp_path_factory, ray_session) -> tuple[Study, list[str]]:
    """`cbmir study image-size` over the drawn images, and what it said."""
    study = Study(str(tmp_path_factory.mktemp("studied") / "study"))
    write_manifest(study, "phantoms", [str(phantoms)], Options())
    return study, tell(study)


OPTIONS = ImageSizeOptions(
    sizes=(8, 64, 128), embed=EmbedOptions(device="cpu"), exclude_same=("patient_id",), ks=(1, 5), resamples=200, permutations=500
)  # fmt: skip


def tell(study: Study, options: ImageSizeOptions = OPTIONS, encoders=("pixels32",)) -> list[str]:
    said: list[str] = []
    study_image_size(study, list(encoders), options, say=said.append)
    return said


def cells(said: list[str]) -> dict[tuple[int, str], list[str]]:
    """(pixels, figure) -> the texts of that line of the table, from the value on."""
    lines = said[-1].splitlines()[1:]
    return {
        (int(parts[1]), parts[2]): parts[3:]
        for parts in (line.replace(" (", "(").replace(" to ", "..").split() for line in lines)
    }


def test_every_figure_of_the_table_against_plain_loops(studied):
    study, said = studied
    values: dict[tuple[int, str, int], dict[int, float]] = {}
    for size in OPTIONS.sizes:
        for row in pq.read_table(study.files("query_metrics", f"pixels32~px{size}", "exact")[0]).to_pylist():
            if row["relevance"] == "label":
                values.setdefault((size, row["metric"], row["k"]), {})[row["query_key"]] = row["value"]
    table = cells(said)
    assert set(table) == set(itertools.product(OPTIONS.sizes, ("P@1", "mAP@5")))
    for (size, figure), texts in table.items():
        of = ("precision_at_k", 1) if figure == "P@1" else ("average_precision_over_hits_at_k", 5)
        mine, largest = values[(size, *of)], values[(128, *of)]
        assert set(mine) == set(largest)
        mean = sum(mine.values()) / len(mine)
        assert texts[0].startswith(f"{mean:.3f}(")
        if size == 128:
            assert texts[2] == "-"
            continue
        difference = sum(mine[key] - largest[key] for key in mine) / len(mine)
        assert texts[2].startswith(f"{difference + 0.0:+.3f}(")
        low, high = (float(text) for text in texts[2].partition("(")[2].rstrip(")").split(".."))
        assert low <= difference + 5e-4
        assert difference - 5e-4 <= high
        assert 0 < float(texts[3]) <= float(texts[4]) <= 1


def test_the_differences_are_those_of_comparisons(studied):
    study, said = studied
    rows = pq.read_table(study.files("comparisons")[0]).to_pylist()
    found = {
        (row["encoder_a"], row["encoder_b"]): row["p_value"]
        for row in rows
        if (row["metric"], row["k"], row["relevance"], row["slice_by"], row["average"])
        == ("average_precision_over_hits_at_k", 5, "label", "all", "micro")
    }
    assert set(found) == {
        ("pixels32~px128", "pixels32~px64"),
        ("pixels32~px128", "pixels32~px8"),
        ("pixels32~px64", "pixels32~px8"),
    }
    assert cells(said)[8, "mAP@5"][3] == f"{found['pixels32~px128', 'pixels32~px8']:.4f}"


def test_the_dataset_keeps_its_contract(studied):
    study, _ = studied
    rows = check(pq.read_table(study.files("image_sizes")[0]), "image_sizes").to_pylist()
    assert [
        (row["encoder"], row["base_encoder"], row["image_size"])
        for row in sorted(rows, key=lambda row: row["image_size"])
    ] == [(f"pixels32~px{size}", "pixels32", size) for size in OPTIONS.sizes]
    assert all(row["seconds_per_image"] >= 0 for row in rows)


def test_what_is_there_is_not_made_again(studied):
    study, first = studied
    before = {dataset: run_jsons(study, dataset) for dataset in ("embeddings", "neighbors")}
    files = sorted(study.files("embeddings", "encoder=pixels32~px64"))
    said = tell(study)
    assert {dataset: run_jsons(study, dataset) for dataset in before} == before
    assert said[-1] == first[-1]
    assert sum("already searched" in line for line in said) == 3
    more = tell(study, ImageSizeOptions(**vars(OPTIONS) | {"sizes": (8, 32, 64, 128)}))
    assert {name: run_jsons(study, "embeddings")[name] for name in before["embeddings"]} == before["embeddings"]
    assert sorted(study.files("embeddings", "encoder=pixels32~px64")) == files
    assert {size for size, _ in cells(more)} == {8, 32, 64, 128}


def test_an_evaluation_that_was_asked_for_before_is_extended(studied):
    study, _ = studied
    evaluate(
        study,
        EvaluateOptions(
            ks=(2, 20), metrics=("hit_rate_at_k",), slices=("split",), resamples=300, permutations=600, seed=3
        ),
    )
    tell(study, ImageSizeOptions(**vars(OPTIONS) | {"resamples": None, "permutations": None}))
    for dataset in ("metrics", "comparisons"):
        asked = study.run_of(dataset)["parameters"]
        assert (asked["k"], asked["slice"], asked["resamples"], asked["permutations"], asked["seed"]) == (
            [1, 2, 5, 20],
            ["split"],
            300,
            600,
            3,
        )
        assert set(asked["metric"]) == {"hit_rate_at_k", "precision_at_k", "average_precision_over_hits_at_k"}
    rows = pq.read_table(study.files("comparisons")[0]).to_pylist()
    assert {row["metric"] for row in rows} == set(asked["metric"])
    tell(study)
    assert study.run_of("metrics")["parameters"]["resamples"] == OPTIONS.resamples


def test_all_sizes_of_an_encoder_are_asked_one_question(studied):
    study, _ = studied
    some = "split = 'train' AND region = 'chest'"
    change = ImageSizeOptions(**vars(OPTIONS) | {"sizes": (8, 64), "gallery": some})
    before = run_jsons(study, "neighbors")
    with pytest.raises(
        UserError,
        match=r"neighbors of pixels32~px\d+ by exact were searched otherwise \(--gallery split = 'train' there, split",
    ):
        tell(study, change)
    assert run_jsons(study, "neighbors") == before
    said = tell(study, ImageSizeOptions(**vars(change) | {"embed": EmbedOptions(device="cpu", overwrite=True)}))
    asked = {
        name: study.run_of("neighbors", name, "exact")["parameters"]["gallery"] for name in study.names("neighbors")
    }
    assert set(asked.values()) == {some}
    assert {size for size, _ in cells(said)} == {8, 32, 64, 128}
    sizes = {row["gallery_size"] for row in pq.read_table(study.files("metrics")[0]).to_pylist()}
    assert len(sizes) == 1, "one gallery"


def test_enlarged_images_are_told_from_what_was_looked_at(phantoms, tmp_path, ray_session):
    study = Study(str(tmp_path / "study"))
    write_manifest(study, "phantoms", [str(phantoms)], Options())
    options = ImageSizeOptions(**vars(OPTIONS) | {"sizes": (8, 1000), "resamples": 0})
    (line,) = [line for line in tell(study, options) if "are enlarged" in line]
    assert line.endswith(
        " that were embedded last are smaller than 1000 pixels and are enlarged to it: at 1000 they show no more than they have"
    )
    assert main(["manifest", "check", "--study", study.address]) == 0
    facts = study.dataset("image_facts").to_table().to_pylist()
    seen = [min(row["width"], row["height"]) for row in facts if row["width"] is not None]
    (line,) = [line for line in tell(study, options) if "are enlarged" in line]
    assert line.startswith(
        f"{sum(side < 1000 for side in seen):,} of {len(seen):,} images are smaller than 1000 pixels"
    )


@pytest.mark.slow
def test_a_killed_study_goes_on(phantoms, tmp_path):
    """SIGKILL while images are embedded; the same command again loses nothing and doubles nothing."""
    header, *rows = (phantoms / "phantoms.csv").read_text().splitlines()
    table = phantoms / f"sizes-{tmp_path.name}.csv"
    table.write_text("\n".join([header, *(f"{copy}/{row}" for copy in range(4) for row in rows)]) + "\n")
    address = tmp_path / "study"
    write_manifest(Study(str(address)), "csv", [str(table)], Options())
    command = ["study", "image-size", "--study", str(address), "--encoder", "pixels32", "--sizes", "28,64", "--batch-size", "16",
               "--resamples", "0", "--allow-overlap", "--max-failures", "1"]  # fmt: skip
    killed_when(lambda: len(list(address.glob("embeddings/*/*.parquet"))) > 2, *command)
    assert Study(str(address)).run_of("image_sizes") is None
    result = cbmir(*command)
    assert result.returncode == 0, result.stderr
    for size in (28, 64):
        assert outcome(address, f"pixels32~px{size}") == (800, 796, 4, 800)
    assert len(pq.read_table(Study(str(address)).files("image_sizes")[0])) == 2


# --- misuse


@pytest.fixture
def hand(tmp_path) -> Study:
    rows = [
        {"image_id": f"h/{i}", "split": "test" if i < 5 else "train", "patient_id": f"p{i % 7}", "labels": ["a"]}
        for i in range(20)
    ]
    return make_study(tmp_path / "study", rows)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--sizes 7,28", "--sizes 7; expected 8 to 4096 pixels"),
        ("--sizes 28,5000", "--sizes 5000; expected 8 to 4096 pixels"),
        ("--sizes 28", "--sizes 28: one size has nothing to be compared with; expected two or more"),
        ("--sizes 28,28", "one size has nothing to be compared with"),
        ("--sizes small", "'small' is not a list of numbers"),
        ("--k 16", "--k 16 is too deep for the gallery (15 images); expected 1 to 15"),
        ("--k 0", "--k 0; expected numbers from 1 on"),
        ("--encoder pixels31", "unknown encoder 'pixels31'; nearest: 'pixels32'"),
        ("--encoder pixels32~px28", "encoder pixels32~px28 says ~px28 itself"),
        ("--weights file.safetensors", "--weights FILE fits one encoder; 0 of those named take weights"),
        ("--gallery wrong=1", "no column 'wrong' in the manifest"),
        ("--queries \"split = 'val'\"", "the queries is empty"),
        ("--exclude-same age", "--exclude-same age: no such column"),
        ("--resamples 3", "--resamples 3: too few for a 95 % interval"),
        ("--packed", "packed is not in the study"),
        ("--image-size 64", "unrecognized arguments: --image-size"),
        ("", "5 patients have queries and gallery images"),
    ],
)
def test_misuse_is_one_line_before_anything_is_embedded(hand, capsys, flags, said):
    arguments = [
        "study",
        "image-size",
        "--study",
        hand.address,
        "--encoder",
        "pixels32",
        *(["--k", "1"] if "--k" not in flags else []),
        *shlex.split(flags),
    ]
    try:
        code = main(arguments)
    except SystemExit as left:  # the parser's own
        code = left.code
    text = capsys.readouterr().err.strip()
    assert code == 2
    assert said in text
    assert len(text.splitlines()) == 1
    assert not hand.exists("embeddings")


def with_search(study: Study, encoder: str, **options) -> None:
    rows = pq.read_table(study.files("manifest")[0]).to_pylist()
    drawn = np.random.default_rng(0)
    add_embeddings(
        study,
        [row["image_id"] for row in rows],
        {row["image_id"]: drawn.normal(size=4) for row in rows},
        encoder=encoder,
    )
    search(study, encoder, "exact", SearchOptions(**{"exclude_same": ("patient_id",)} | options))


@pytest.mark.parametrize(
    "encoder, options, ks, said",
    [
        ("other", {"k": 3}, (4,), "--k 4: neighbors of other by exact were searched with -k 3; expected 1 to 3"),
        ("other", {"exclude_same": ()}, (1,), "5 patients have queries and gallery images in other exact, one of them"),
        ("pixels32~px64", {"metric": "l2"}, (1,), r"pixels32~px64 by exact were searched otherwise \(--metric l2 there, cos now\); .*--overwrite"),
        ("pixels32~px64", {"gallery": "true"}, (1,), "--gallery true there, split = 'train' now"),
        ("pixels32~px64", {"queries": "true"}, (1,), "--queries true there, split = 'test' now"),
        ("pixels32~px64", {"exclude_same": ()}, (1,), "--exclude-same nothing there, patient_id now"),
        ("pixels32~px64", {"k": 3}, (5,), "-k 3 there, 15 now"),
        ("pixels32~px28", {"gallery": "true"}, (1,), "pixels32~px28 by exact were searched otherwise"),
    ],
)  # fmt: skip
def test_what_search_and_evaluation_would_refuse_is_refused_before_anything_is_embedded(
    hand, encoder, options, ks, said
):
    with_search(hand, encoder, **options)
    asked = ImageSizeOptions(sizes=(28, 128), ks=ks, exclude_same=("patient_id",))
    with pytest.raises(UserError, match=said) as refused:
        study_image_size(hand, ["pixels32"], asked, say=print)
    assert "\n" not in str(refused.value)
    assert hand.names("embeddings") == [encoder]


def test_an_outdated_search_is_told_before_anything_is_embedded(hand):
    with_search(hand, "other")
    run = hand.run_of("embeddings", "encoder=other")
    hand.write_json(run | {"fingerprint": "another"}, "embeddings", "encoder=other", "run.json")
    with pytest.raises(UserError, match="neighbors of other by exact are older than the manifest, the embeddings"):
        study_image_size(hand, ["pixels32"], ImageSizeOptions(ks=(1,), exclude_same=("patient_id",)), say=print)
    assert hand.names("embeddings") == ["other"]


def test_sizes_are_searched_as_deep_as_those_that_are_there(hand):
    with_search(hand, "pixels32~px64", k=7)
    asked, again = question(
        hand, ["pixels32~px28", "pixels32~px64"], ImageSizeOptions(ks=(1, 5), exclude_same=("patient_id",))
    )
    assert (asked.k, again) == (7, [])


def test_one_set_at_several_sizes_is_no_gallery(tmp_path):
    rows = [
        {"image_id": f"{d}/{i}", "dataset": d, "split": "test" if i < 2 else "train", "labels": ["a"]}
        for d in ("breastmnist_28", "breastmnist_224")
        for i in range(9)
    ]
    study = make_study(tmp_path / "study", rows)
    options = ImageSizeOptions(ks=(1,))
    with pytest.raises(
        UserError,
        match=r"breastmnist_28 and breastmnist_224 are the same images at several sizes, .* dataset = 'breastmnist_224'",
    ):
        study_image_size(study, ["pixels32"], options, say=print)


# --- real images and weights


def test_real_images_at_three_sizes(shared, ray_session, tmp_path, capsys):
    """Brain MR at 224 pixels, by pixels32 and by a trained network, which needs the detail that pixels32 does not see."""
    with open(shared / "data" / "images.csv", newline="") as file:
        rows = [
            r | {"path": str(shared / "data" / r["path"])}
            for r in csv.DictReader(file)
            if r["source"] == "brain_tumor_mri"
        ][::4]
    with open(tmp_path / "images.csv", "w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    spec = tmp_path / "mobilenet.toml"
    spec.write_text(
        'model = "timm:mobilenetv2_100"\noptions = { pad_type = "same" }\n'
        f'weights = "{shared}/weights/mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors"\n'
    )
    address = str(tmp_path / "study")
    assert main(["manifest", "csv", str(tmp_path / "images.csv"), "--study", address]) == 0
    flags = [
        "--encoder",
        "pixels32",
        "--encoder",
        str(spec),
        "--sizes",
        "8,28,224",
        "--resamples",
        "200",
        "--permutations",
        "500",
    ]
    assert main(["study", "image-size", "--study", address, *flags]) == 0
    print(capsys.readouterr().out)
    study = Study(address)
    p1 = {
        row["encoder"]: row["value"]
        for row in pq.read_table(study.files("metrics")[0]).to_pylist()
        if (row["metric"], row["k"], row["relevance"], row["slice_by"], row["average"])
        == ("precision_at_k", 1, "label", "all", "micro")
    }
    assert p1["mobilenet~px224"] > p1["mobilenet~px28"] > p1["mobilenet~px8"]
    assert abs(p1["pixels32~px224"] - p1["pixels32~px28"]) < p1["mobilenet~px224"] - p1["mobilenet~px8"]


def test_packed_images_that_are_smaller_than_a_size_are_refused(hand):
    hand.write_json({"parameters": {"short_side": 64}}, "packed", "run.json")
    assert packed_for(hand, [resolve("pixels32~px64")])["short_side"] == 64
    with pytest.raises(
        UserError, match="encoder pixels32~px128 resizes to 128 pixels, and the packed images have a short side of 64"
    ):
        packed_for(hand, [resolve("pixels32~px64"), resolve("pixels32~px128")])
