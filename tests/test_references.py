"""The published figures that come with cbmir: as printed, marked where they cannot be right, and called as cbmir calls them."""

import csv
import re
from importlib import resources

import pandas as pd
import pytest

from cbmir import Study
from cbmir.datasets.medmnist_sets import SETS, SIZES_2D, SIZES_3D
from cbmir.encoders.spec_file import rows as encoder_rows
from cbmir.errors import UserError
from cbmir.references import papers, published
from cbmir.schemas import PUBLISHED
from cbmir.sql_files import names
from tests.studies import make_study

ABSENT = 5  # figures of BreastMNIST, 64 pixels, MedCLIP


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return published().to_pandas()


@pytest.fixture(scope="module")
def facts(shared):
    directory = shared / "facts"
    if not directory.is_dir():
        pytest.skip(f"no folder {directory}: this test compares with the figures there")
    return directory


def read(path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_figure_of_the_first_paper(table, facts):
    found = table[table["paper"] == "denner2024"].set_index(["encoder", "printed_metric"])
    expected = read(facts / "denner2024_results.csv")
    assert len(found) == len(expected) == 4
    for row in expected:
        figure = found.loc[(row["encoder"], row["metric"])]
        assert figure["value"] == float(row["value"])
        assert figure["printed"] == row["value"]
    assert found["average"].isna().all()  # the abstract does not say
    assert found["image_size"].isna().all()


def test_every_figure_of_the_second_paper_and_no_other(table, facts):
    found = table[(table["paper"] == "mahbod2024") & table["printed"].notna()]
    keys = ["dataset", "image_size", "encoder", "printed_metric"]
    expected = read(facts / "mahbod2024_results.csv")
    ours = {tuple(map(str, row)): printed for *row, printed in found.astype({"image_size": int})[[*keys, "printed"]].itertuples(index=False)}  # fmt: skip
    assert ours == {(r["dataset"], r["image_size"], r["model"], r["metric"]): r["value"] for r in expected}
    assert len(found) == len(expected) == 1255
    off = found[(found["value"] - found["printed"].astype(float) / 100).abs() > 1e-12]
    assert off[[*keys, "printed", "value"]].values.tolist() == [["BreastMNIST", 224, "VGG19", "ACC@5", "1.00", 1.0]]


def test_what_cannot_be_right_as_printed_is_marked(table, facts):
    marked = table[(table["paper"] == "mahbod2024") & table["note"].notna()].astype({"image_size": int})
    notes = read(facts / "mahbod2024_results_notes.csv")
    for note in notes:
        where = (marked["dataset"] == note["dataset"]) & (marked["image_size"] == int(note["image_size"])) & (marked["encoder"] == note["model"])  # fmt: skip
        rows = marked[where & ((marked["printed_metric"] == note["metric"]) | (note["metric"] == "*"))]
        assert set(rows["note"]) == {note["note"]}
        assert len(rows) == (ABSENT if note["metric"] == "*" else 1)
        assert set(rows["printed"].dropna()) == ({note["printed"]} if note["printed"] else set())
    assert len(marked) == len(notes) - 1 + ABSENT


def test_the_table_is_whole(table):
    """Every set, size, model and metric of the second paper stands there once; absent figures are null, and said to be."""
    mahbod = table[table["paper"] == "mahbod2024"]
    keys = ["dataset", "image_size", "encoder", "printed_metric"]
    assert not mahbod.duplicated(keys).any()
    assert mahbod["encoder"].nunique() == 9
    for dataset, rows in mahbod.groupby("dataset"):
        sizes = SIZES_3D if SETS[dataset.lower()].volumes else SIZES_2D
        assert sorted(rows["image_size"].unique()) == list(sizes)
        assert len(rows) == len(sizes) * 9 * 5
    assert mahbod["dataset"].nunique() == 8
    absent = mahbod[mahbod["value"].isna()]
    assert set(absent[["dataset", "image_size", "encoder"]].itertuples(index=False, name=None)) == {("BreastMNIST", 64, "MedCLIP")}  # fmt: skip
    assert len(absent) == ABSENT
    assert absent["note"].notna().all()
    assert table["value"].dropna().between(0, 1).all()


def test_shares_of_queries_are_shares_of_the_published_queries(table):
    """ACC@k and mMV@5 are counts of queries divided by how many there are: what is no such share is a misprint, and marked."""
    shares = table[table["printed_metric"].str.match("ACC|mMV") & table["value"].notna()]
    queries = shares["dataset"].map(lambda name: SETS[name.lower()].counts[0][2])
    below = (shares["value"] * queries).map(lambda hits: int(hits + 1e-6))
    printed = shares["value"].round(4)
    fits = pd.Series(False, shares.index)
    for hits in (below, below + 1):
        share = hits / queries
        fits |= (printed - share).abs() <= 0.5001e-4  # rounded to hundredths of a percent
        fits |= (share - printed).between(0, 1e-4)  # or cut off
    assert set(shares[~fits]["note"].isna()) <= {False}, shares[~fits & shares["note"].isna()]
    assert (~fits).sum() == 4


def test_names_are_those_of_cbmir(table):
    rows = encoder_rows()
    pairs = table[["paper", "encoder", "cbmir_encoder"]].drop_duplicates()
    for paper, _, name in pairs.itertuples(index=False):
        assert paper in rows[name].papers
    assert set(table["metric"]) <= set(names("metrics"))
    assert set(table["average"].dropna()) == {"micro"}
    asked = table["printed_metric"].map(lambda name: int(name.split("@")[1]))
    assert (asked == table["k"]).all()


def test_papers_are_cited():
    assert set(papers()) == set(published()["paper"].to_pylist())
    for paper in papers().values():
        assert re.match(rf"@\w+\{{{paper.name},\n", paper.bibtex)
        assert paper.bibtex.count("{") == paper.bibtex.count("}")
        assert paper.title in paper.bibtex
        assert paper.title in paper.citation
    assert "arXiv 2403.06567" in papers()["denner2024"].citation


def test_the_files_lie_inside_the_package():
    there = {file.name for file in resources.files("cbmir.references").iterdir()}
    assert {"published.csv", "encoders.csv", "metrics.csv", "papers.toml"} <= there


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(make_study(tmp_path_factory.mktemp("references") / "study", [{"image_id": "a"}]).address)


def test_in_sql_beside_the_study(study):
    found = study.sql(
        "SELECT value, printed, note FROM published WHERE dataset = 'BreastMNIST' AND image_size = 224 AND encoder = 'VGG19' AND printed_metric = 'ACC@5'"
    )
    assert found.values.tolist() == [[1.0, "1.00", "printed so; means 100.00 (156/156)"]]
    assert study.sql("SELECT count(*) AS n FROM published")["n"][0] == published().num_rows
    assert study.sql("FROM published").columns.tolist() == PUBLISHED.names


def test_in_python_with_filters(study):
    found = study.published(paper="mahbod2024", dataset="BreastMNIST", image_size=[28, 224], encoder="UNI")
    assert found.columns.tolist() == PUBLISHED.names
    assert len(found) == 2 * 5
    assert found["image_size"].dtype == "Int32"
    assert len(study.published()) == published().num_rows
    with pytest.raises(UserError, match=r"no dataset 'BreastMnist' in published; nearest: 'BreastMNIST'"):
        study.published(dataset="BreastMnist")
    with pytest.raises(UserError, match=r"no image_size 32 in published; there: 28, 64, 128, 224"):
        study.published(image_size=32)
