"""Charts of little and of much: one sample, no exact search, nothing found, 45 lines, 161 labels."""

import pytest

from cbmir.report.drawn import Asked
from tests.scaling_studies import (
    ENCODERS,
    INDEXES,
    LABELS,
    SIZES,
    cost_rows,
    effort_rows,
    empty_study,
    fit_rows,
    publish,
    scaling_rows,
)


def those(rows: list[dict], **where) -> list[dict]:
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


LONG = tuple(f"CT/abdomen/some pathology with a rather long name {i:03d}" for i in range(161))
MANY = tuple(f"open_clip:ViT-B-{i}/a_pretrained_name~random{i}" for i in range(15))
SPARSE = {
    "one size and seed": {"scaling": scaling_rows(encoders=ENCODERS[:1], indexes=("exact",), sizes=SIZES[:1], seeds=(0,), labels=())},
    "no exact index": {"scaling": scaling_rows(indexes=INDEXES[1:], seeds=(0,), labels=LABELS[:2]), "scaling_costs": cost_rows(indexes=("hnsw",))},
    "nothing changes": {"scaling": [row | {"value": 0.5, "chance": None, "ci_low": None} for row in scaling_rows()]},
    "nothing is found": {"scaling": [row | {"value": 0.0} for row in scaling_rows(labels=LABELS[:1])]},
    "45 lines": {"scaling": (many := scaling_rows(encoders=MANY, labels=LABELS[:2], sizes=SIZES[:2], seeds=(0, 1))), "fits": fit_rows(many)},
    "161 labels": {"scaling": scaling_rows(encoders=ENCODERS[:1], indexes=("exact",), labels=LONG)},
    "only regions": {"scaling": those(scaling_rows(seeds=(0,)), relevance="region")},
    "another metric": {"scaling": [r | {"metric": "recall_at_k"} for r in scaling_rows(labels=())], "scaling_costs": cost_rows()},
    "exact costs alone": {"scaling": scaling_rows(labels=(), seeds=(0,)), "scaling_costs": cost_rows(indexes=("exact",), sizes=SIZES[:1])},
    "fits without intervals": {"scaling": scaling_rows(labels=()), "fits": [r | {"ci_low": None, "ci_high": None} for r in fit_rows(scaling_rows())]},
    "exact effort alone": {"search_effort": those(effort_rows(), dtype="exact")},
    "effort without exact": {"search_effort": [r for r in effort_rows() if r["dtype"] != "exact" and r["metric"] == "ann_recall"]},
    "one point": {"search_effort": those(effort_rows(encoders=("x",), dtypes=("int8",), reranks=(0,), expansions=(16,)), metric="ann_recall")},
    "many efforts": {"search_effort": effort_rows(encoders=MANY[:6], dtypes=("float32", "float16", "int8"), reranks=(0, 1, 2, 4))},
    "names that are formulas": {"scaling": [r | {"encoder": "a$x_1$<b>&"} for r in scaling_rows(encoders=ENCODERS[:1], labels=(), seeds=(0,))]},
}  # fmt: skip
SIZE, LEVELS, PREVALENCE, LABEL = "index_size", "index_size_anatomy", "index_size_by_prevalence", "index_size_by_label"
COSTS, EFFORTS = "index_size_costs", {"search_effort", "search_effort_by_expansion"}
EXPECTED = {
    "one size and seed": {SIZE, LEVELS, PREVALENCE},
    "no exact index": {SIZE, LEVELS, PREVALENCE, LABEL, COSTS},
    "nothing changes": {SIZE, LEVELS, PREVALENCE, LABEL},
    "nothing is found": {SIZE, LEVELS, PREVALENCE, LABEL},
    "45 lines": {SIZE, LEVELS, PREVALENCE, LABEL},
    "161 labels": {SIZE, LEVELS, PREVALENCE, LABEL},
    "only regions": {SIZE, LEVELS},
    "another metric": {COSTS},
    "exact costs alone": {SIZE, LEVELS, PREVALENCE, COSTS},
    "fits without intervals": {SIZE, LEVELS, PREVALENCE},
    "exact effort alone": EFFORTS,
    "effort without exact": EFFORTS,
    "one point": EFFORTS,
    "many efforts": EFFORTS,
    "names that are formulas": {SIZE, LEVELS, PREVALENCE},
}


@pytest.mark.parametrize("kind", SPARSE)
def test_few_and_many_are_drawn(tmp_path, kind):
    study = empty_study(tmp_path / "study")
    for dataset, rows in SPARSE[kind].items():
        publish(study, dataset, rows)
    charts = {each.chart.name: each for each in Asked(study).charts()}
    assert set(charts) == EXPECTED[kind]
    says = {name: each.sentence for name, each in charts.items()}
    for each in charts.values():
        assert each.on_page().startswith("<svg ")
        assert all(len(row) == len(each.table.head) for row in each.table.rows)
    assert all(said.endswith(".") and "nan" not in said and "None" not in said for said in says.values())
    if kind == "161 labels":
        assert says["index_size_by_label"].startswith("Of 161 labels ")
    if kind == "one size and seed":
        assert says["index_size"] == f"P@1 of pixels32 is {SPARSE[kind]['scaling'][0]['value']:.2f} at 1,000 images."
