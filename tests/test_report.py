"""The report: its figures are those of metrics, it opens anywhere, and it shows what is uncomfortable."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.report import leaderboard, leaderboard_text, query_page, write_report
from cbmir.report.sources import bare
from cbmir.schemas import MANIFEST, NEIGHBORS, ContractError, embeddings, image_key
from cbmir.select import keys_where
from cbmir.store import Study, fingerprint, path_name, run_record

LABELS = ["XR/chest/Nodule", "XR/chest/No Finding", "MR/brain/Glioma"]
EVIL = "XR/chest/<script>alert('x')</script>"
RANDOM = "timm:tiny_net~random0"


def make_manifest(
    study: Study, folder: Path, labels: list[list[str]], *, source: str = "folder", known: bool = True
) -> pa.Table:
    """One PNG an image; every third is a query."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i, names in enumerate(labels):
        uri = folder / f"{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 30), np.uint8)).save(uri)
        modality, region = (names[0].split("/")[:2] if names else ("XR", "chest")) if known else ("unknown", "unknown")
        image_id = f"small/{i}.png"
        rows.append(
            {"image_id": image_id, "image_key": image_key(image_id), "uri": str(uri), "dataset": "small"}
            | {"split": "test" if i % 3 == 0 else "train", "patient_id": f"p{i // 2}", "modality": modality}
            | {"region": region, "labels": names, "unknown_labels": []}
        )
    table = pa.Table.from_pylist(rows, schema=MANIFEST)
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run_record("manifest", parameters={"source": source}, inputs={"rows": str(len(rows))}, rows=len(rows))
    return table


def add_encoder(study: Study, manifest: pa.Table, name: str, *, indexes=("exact",), failed=(), **options) -> None:
    """Vectors for all images but `failed` (row numbers), and searches of them."""
    keys, uris = np.asarray(manifest["image_key"]), manifest["uri"].to_pylist()
    fine = np.setdiff1d(np.arange(len(keys)), failed)
    random = 0 if "random" in name else None
    with study.publishing("embeddings", f"encoder={path_name(name)}") as out:
        vectors = pa.array(np.ones((len(fine), 4), np.float32).tolist(), embeddings(4).field("embedding").type)
        table = pa.table([pa.array(keys[fine]), vectors], schema=embeddings(4))
        study.write_table(table, *out.parts, "part.parquet")
        out.run = run_record("embed", parameters={}, inputs={}, rows=len(fine), dim=4, random_weights=random)
    lost = [{"image_key": keys[i], "uri": uris[i], "stage": "decode"} for i in failed]
    if lost:
        rows = [row | {"error": f"cannot open {row['uri']} <b>"} for row in lost]
        study.write_table(pa.Table.from_pylist(rows), "failures", f"encoder={path_name(name)}", "part.parquet")
    for index in indexes:
        add_search(study, manifest.take(fine), name, index, failed=failed, **options)


def add_search(
    study: Study, embedded: pa.Table, encoder: str, index: str, *, k=10, seed=0, failed=(), saved_as=None, gallery="split = 'train'",
    exclude_same=(),
) -> None:  # fmt: skip
    """Neighbors in random order, drawn by `seed`; of the `failed` rows every third is a query. `exclude_same` is written down and not heeded."""
    keys, test = np.asarray(embedded["image_key"]), np.asarray(embedded["split"]) == "test"
    queries, n = keys[test], int(test.sum())
    roles = [keys_where(study, where, role="rows")["image_key"].to_pylist() for where in (gallery, "split = 'test'")]
    there = keys[np.isin(keys, roles[0])]
    rng = np.random.default_rng([seed, len(index)])
    found = np.concatenate([rng.permutation(there)[:k] for _ in queries])
    columns = [np.repeat(queries, k), found, np.tile(np.arange(1, k + 1), n), np.tile(np.linspace(0.01, 0.9, k), n)]
    arrays = [pa.array(c).cast(f.type, safe=False) for c, f in zip(columns, NEIGHBORS, strict=True)]
    parameters = {"k": k, "gallery": gallery, "queries": "split = 'test'"}
    parameters |= {"exclude_same": list(exclude_same), "index": index}
    vectors = study.require("embeddings", f"encoder={path_name(encoder)}")["fingerprint"]
    inputs = {"embeddings": vectors, "manifest": study.require("manifest")["fingerprint"], "seed": str(seed)}
    lost = sum(i % 3 == 0 for i in failed)
    counts = {"queries": n, "queries_not_embedded": lost}
    counts |= {"gallery": len(there), "gallery_not_embedded": len(failed) - lost}
    asked = fingerprint(*roles, sorted(exclude_same))
    with study.publishing("neighbors", path_name(encoder), path_name(saved_as or index)) as out:
        out.write_table(pa.table(arrays, schema=NEIGHBORS), "part.parquet", "neighbors")
        out.run = run_record(
            "search", parameters=parameters, inputs=inputs, rows=len(found), question=asked, compared=asked, **counts
        )


def make_study(tmp_path: Path, *, labels=None, encoders=("plain",), **options) -> Study:
    study = Study(str(tmp_path / "my_study"))
    labels = (
        labels
        if labels is not None
        else [[LABELS[i // 3 % 3]] if i % 4 else [LABELS[i // 3 % 3], EVIL] for i in range(45)]
    )
    more = {key: options.pop(key) for key in ("source", "known") if key in options}
    manifest = make_manifest(study, tmp_path / "pixels", labels, **more)
    for seed, name in enumerate(encoders):
        add_encoder(study, manifest, name, seed=seed, **options)
    evaluate(study, EvaluateOptions(allow_overlap=True), say=lambda *_: None)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Two encoders, exact and approximate, one of random weights; one query and one gallery image not embedded."""
    folder = tmp_path_factory.mktemp("report")
    return make_study(folder, encoders=("plain", RANDOM), indexes=("exact", "hnsw"), failed=(3, 4), source="phantoms")


@pytest.fixture(scope="module")
def page(study) -> str:
    return Path(write_report(study)).read_text()


class Page(HTMLParser):
    """Tables as {id: rows of cell texts}, addresses, tags and the tiles of the gallery."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables, self.addresses, self.tags, self.tiles = {}, [], [], []
        self.table = self.cell = self.tile = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.addresses += [
            attributes[a] for a in ("src", "href", "xlink:href", "action", "srcset", "data") if a in attributes
        ]
        if tag == "table":
            self.table = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr" and self.table is not None:
            self.table.append([])
        elif tag in ("td", "th"):
            self.cell = ""
        words = set((attributes.get("class") or "").split())
        if "tile" in words:
            (kind,) = words & {"right", "wrong", "plain"}
            self.tile = {"kind": kind, "asked": "asked" in words, "text": "", "id": attributes.get("title")}
            self.tiles.append(self.tile)

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.table is not None:
            self.table[-1].append(" ".join(self.cell.split()))
            self.cell = None
        elif tag == "table":
            self.table = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data
        if self.tile is not None:
            self.tile["text"] += data


def figure(metrics: pd.DataFrame, **where) -> float:
    """The one value of metrics with these properties."""
    rows = metrics
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows["value"].iloc[0]


def test_the_leaderboard_holds_the_figures_of_metrics(study):
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    rows = leaderboard(study)
    assert len(rows) == 4
    for row in rows:
        place = {"encoder": row["encoder"], "index": row["index"], "slice_by": "all", "metric": "precision_at_k"}
        for k in (1, 3, 5, 10):
            for average in ("micro", "macro"):
                expected = figure(metrics, relevance="label", k=k, average=average, **place)
                assert row[f"p{k}_{average}"] == pytest.approx(expected, abs=1e-12)
        for level in ("region", "modality"):
            assert row[f"{level}_p1"] == pytest.approx(figure(metrics, relevance=level, k=1, average="micro", **place))
        assert (row["n_queries"], row["n_failed"], row["gallery_size"], row["dim"]) == (15, 1, 29, 4)
        recall = None if row["index"] == "exact" else figure(metrics, k=10, **place | {"metric": "ann_recall"})
        assert row["ann_recall"] == recall
    exact = {row["encoder"]: row["p1_micro"] for row in rows if row["index"] == "exact"}
    order = [row["encoder"] for row in rows]
    assert order[0] == order[1] == max(exact, key=exact.get)
    assert [row["index"] for row in rows] == ["exact", "hnsw"] * 2


def test_page_and_terminal_show_the_leaderboard(study, page):
    rows = leaderboard(study)
    cells = Page(page).tables["leaderboard-table"][3:]
    lines = [line.split() for line in leaderboard_text(rows).splitlines() if " exact " in line or " hnsw " in line]
    for row, shown, line in zip(rows, cells, lines, strict=True):
        expected = [f"{100 * row[f'p{k}_{average}']:.1f}" for average in ("micro", "macro") for k in (1, 3, 5, 10)]
        interval = f" {100 * row['p1_micro_low']:.1f}–{100 * row['p1_micro_high']:.1f}"
        assert shown[2:6] + shown[7:11] == [expected[0] + interval, *expected[1:]]
        assert all(value in line for value in expected)
    widths = {len(line) for line in leaderboard_text(rows).splitlines() if " exact " in line or " hnsw " in line}
    assert len(widths) == 1


def test_every_label_is_in_the_table_of_labels(study, page):
    metrics = pd.read_parquet(study.path("metrics", "metrics.parquet"))
    best = leaderboard(study)[0]["encoder"]
    shown = {row[0]: row for row in Page(page).tables["label-chart"][1:]}
    assert set(shown) == {*LABELS, EVIL}
    for label, row in shown.items():
        where = {
            "encoder": best,
            "index": "exact",
            "slice_by": "label",
            "slice": label,
            "relevance": "label",
            "average": "micro",
        }
        assert row[2] == f"{100 * figure(metrics, metric='precision_at_k', k=5, **where):.1f}"


def test_the_page_needs_nothing_from_outside(page):
    parsed = Page(page)
    assert [a for a in parsed.addresses if not a.startswith(("data:", "#"))] == []
    assert "http" not in page.replace("http-equiv", "")
    assert {"link", "iframe", "object", "base"}.isdisjoint(parsed.tags)
    assert not re.search(r"url\((?!#)|@import", page)


def test_no_path_of_the_machine_is_in_the_page(study, page, tmp_path):
    assert "my_study" in page
    for folder in (study.root.removesuffix("/my_study"), str(Path(study.root).parent.parent), "/tmp/", "/home/"):
        assert folder not in page
    assert "…/3.png" in page


@pytest.mark.parametrize(
    "text, shown",
    [
        ("cannot open '/data/p1/a.png': gone", "cannot open '…/a.png': gone"),
        ("s3://bucket/x/a.png", "…/a.png"),
        ("uri LIKE '/data/p1/%'", "uri LIKE '…/%'"),
        ("XR/chest/No Finding and 1/2", "XR/chest/No Finding and 1/2"),
    ],
)
def test_bare_takes_folders_away(text, shown):
    assert bare(text) == shown


def test_foreign_text_is_escaped(page):
    assert Page(page).tags.count("script") == 1
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(" in page
    assert ".png &lt;b&gt;" in page


def test_random_weights_and_phantoms_are_named_wherever_they_count(page):
    assert 'id="phantoms"' in page
    tables = Page(page).tables
    for name in ("leaderboard-table", "by-label", "by-region", "failure-counts", "failure-rows"):
        cells = [cell for row in tables[name] for cell in row if RANDOM in cell]
        assert cells
        assert all(f"{RANDOM} random weights" in cell for cell in cells)
    assert "plain random weights" not in " ".join(cell for row in tables["leaderboard-table"] for cell in row)


def test_failures_are_shown(page):
    tables = Page(page).tables
    assert [row[3] for row in tables["failure-counts"][1:]] == ["1"] * 4
    assert [row[0] for row in tables["failure-rows"][1:]] == ["small/3.png", "small/4.png"]


def test_marks_agree_with_labels(study, page):
    manifest = pd.read_parquet(study.path("manifest", "manifest.parquet")).set_index("image_id")
    tiles, query, seen = Page(page).tiles, None, []
    for tile in tiles:
        if tile["asked"]:
            query = set(manifest.loc[tile["id"], "labels"])
        else:
            right = bool(query & set(manifest.loc[tile["id"], "labels"]))
            assert tile["kind"] == ("right" if right else "wrong")
            assert ("✓" if right else "✗") in tile["text"]
            seen.append(right)
    assert len(seen) == 14 * 8  # of 15 queries one could not be embedded
    assert set(seen) == {True, False}


def test_pictures_are_small_jpegs(page):
    sources = [a for a in Page(page).addresses if a.startswith("data:image/jpeg;base64,")]
    assert len(sources) == 14 * 9
    image = Image.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1])))
    assert image.size == (30, 20)


def test_the_same_study_gives_the_same_bytes(study, page):
    assert Path(write_report(study)).read_text() == page
    run = study.require("report")
    assert run["inputs"]["metrics"] == study.require("metrics")["fingerprint"]
    assert run["parameters"] == {"examples": 60, "seed": 0}
    assert (
        Path(write_report(study, examples=8, seed=1)).read_text() != Path(write_report(study, examples=8)).read_text()
    )


def test_the_commands_in_the_page_give_its_figures(study, page):
    command = (
        re.search(r'<pre>cbmir sql --study STUDY "(.*?)"</pre>', page.replace("&#34;", '"'))
        .group(1)
        .replace("&#39;", "'")
    )
    connection = duckdb.connect()
    connection.read_parquet(study.path("metrics", "metrics.parquet")).create_view("metrics")
    found = connection.execute(command).fetchall()
    best = leaderboard(study)[0]
    assert [r[4] for r in found if r[:4] == (best["encoder"], "exact", "micro", 5)] == [best["p5_micro"]]


def test_an_unreadable_image_gets_a_placeholder(tmp_path):
    study = make_study(tmp_path)
    for path in (tmp_path / "pixels").glob("[1-3]*.png"):
        path.write_bytes(b"no image")
    html = Path(write_report(study)).read_text()
    assert html.count("image cannot be read") + html.count("data:image/jpeg") == 15 * 9
    assert "image cannot be read" in html


@pytest.mark.parametrize(
    "labels", [[[]] * 30, [["XR/chest/A"] if i % 3 else ["XR/chest/B"] for i in range(30)]], ids=["no label", "no hit"]
)
def test_nothing_to_find_is_no_error(tmp_path, labels):
    html = Path(write_report(make_study(tmp_path, labels=labels))).read_text()
    assert ("No query of this study has a label" in html) == (labels[0] == [])
    assert {tile["kind"] for tile in Page(html).tiles} == (
        {"plain", "right"} if labels[0] == [] else {"plain", "wrong"}
    )


def test_a_short_search_leaves_columns_out(tmp_path):
    study = make_study(tmp_path, k=3)
    heads = Page(Path(write_report(study, examples=0)).read_text()).tables["leaderboard-table"][1]
    assert "P@3" in heads
    assert {"P@5", "P@10", "recall@10"}.isdisjoint(heads)
    assert "P@5" not in leaderboard_text(leaderboard(study))


def test_many_encoders_and_many_labels(tmp_path):
    names = [f"encoder{i}" for i in range(9)]
    labels = [[f"XR/chest/finding {i // 3:03d}"] for i in range(3 * 70)]
    html = Path(write_report(make_study(tmp_path, labels=labels, encoders=names, k=1), examples=3)).read_text()
    tables = Page(html).tables
    assert len(tables["label-chart"]) == 1 + 30 + 1 + 30
    assert "10 labels between" in tables["label-chart"][31][0]
    assert len(tables["by-label"]) == 1 + 70
    (section,) = re.findall(r'<section id="curves">.*?</section>', html, re.DOTALL)
    (drawing,) = re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    assert len(set(re.findall(r'class="measured".*?style="([^"]*)"', drawing, re.DOTALL))) == 9
    assert all(f">{name}</text>" in drawing for name in (*names, "chance"))


def test_figures_of_nothing_and_of_another_search_are_refused(tmp_path):
    with pytest.raises(ContractError, match="no study at"):
        write_report(Study(str(tmp_path / "nothing")))
    study = Study(str(tmp_path / "my_study"))
    manifest = make_manifest(study, tmp_path / "pixels", [[LABELS[0]]] * 30)
    add_encoder(study, manifest, "plain")
    with pytest.raises(ContractError, match="make it with: cbmir evaluate"):
        write_report(study)
    evaluate(study, EvaluateOptions(allow_overlap=True))
    add_encoder(study, manifest, "plain", seed=7)
    with pytest.raises(
        UserError, match=r"the metrics are older than the neighbors of plain by exact; .* cbmir evaluate"
    ):
        write_report(study)


def test_a_study_that_says_nothing_of_its_images_is_refused(tmp_path):
    study = make_study(tmp_path, labels=[[]] * 30, known=False)
    with pytest.raises(UserError, match="the metrics hold no figure"):
        write_report(study)


def test_other_questions_stand_apart_and_searches_without_figures_are_named(tmp_path):
    study = make_study(tmp_path)
    manifest = study.dataset("manifest").to_table()
    predicate = "split = 'train' AND region = 'chest'"
    add_search(study, manifest, "plain", "exact", saved_as="chest", gallery=predicate)
    evaluate(study, EvaluateOptions(allow_overlap=True))
    add_encoder(study, manifest, "late")
    html = Path(write_report(study, examples=1)).read_text()
    assert "late by exact" in html
    assert "late" not in str(Page(html).tables["leaderboard-table"])
    assert [(row["letter"], row["index"]) for row in leaderboard(study)] == [("A", "exact"), ("B", "chest")]
    assert f"gallery {predicate}" in Page(html).tables["leaderboard-table"][4][0]


def test_query_page(tmp_path):
    pixels = tmp_path / "a.png"
    Image.new("L", (640, 400), 90).save(pixels)
    near = {
        "rank": 1,
        "distance": 0.25,
        "image_id": "small/<1>.png",
        "labels": [EVIL],
        "modality": "XR",
        "region": "chest",
        "split": "train",
    }
    results = [
        {
            "image": str(pixels),
            "uri": str(pixels),
            "neighbors": [near | {"uri": str(pixels)}, near | {"rank": 2, "uri": str(tmp_path / "gone.png")}],
            "votes": [
                {"label": EVIL, "share": 0.5},
                {"label": "XR/chest/Mass/left", "share": 1 / 3},
                {"label": None, "share": 1 / 6},
            ],
        }
    ]
    html = query_page(results, title="Nearest <images>")
    parsed = Page(html)
    assert [tile["kind"] for tile in parsed.tiles] == ["plain"] * 3
    assert "<h1>Nearest &lt;images&gt;</h1>" in html
    assert "distance 0.2500" in html
    assert html.count("image cannot be read") == 1
    assert "<b>Mass/left</b>" in html
    assert [" ".join(line.split()) for line in re.findall(r"--v:([\d.]+)", html)] == ["50.0", "33.3", "16.7"]
    assert '<span class="soft">no label</span>' in html
    assert EVIL not in html
    assert str(tmp_path) not in html
    assert parsed.tags.count("script") == 1
    assert [a for a in parsed.addresses if not a.startswith("data:")] == ["#main"]
    failed = {"image": "x.png", "uri": None, "neighbors": [], "error": "decode: cannot open /data/p1/x.png <b>"}
    assert "decode: cannot open …/x.png &lt;b&gt;" in query_page([failed], title="x")
    assert "No neighbor was found" in query_page([{"image": "x.png", "uri": None, "neighbors": []}], title="x")


def test_importing_is_cheap():
    code = "import sys, cbmir.report; print(sorted({'matplotlib', 'jinja2', 'PIL', 'torch', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
