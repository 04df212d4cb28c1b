"""Real radiographs and ultrasound with real weights, where the samples are at hand: figures that other code measured.

P@5, gallery = train, queries = test within one source, cosine (the samples' README): pixels are PIL bicubic 32x32.
"""

import csv
import json

import pyarrow.parquet as pq
import pytest

from cbmir.cli import main

PUBLISHED = {
    ("busi", "mobilenetv2"): 0.576,
    ("busi", "pixels32"): 0.422,
    ("brain_tumor_mri", "mobilenetv2"): 0.794,
    ("brain_tumor_mri", "pixels32"): 0.723,
}
CHANCE = {"busi": 0.388, "brain_tumor_mri": 0.250}


def part(shared, tmp_path, source):
    """The rows of one source, with absolute paths."""
    with open(shared / "data" / "images.csv", newline="") as file:
        rows = [
            row | {"path": str(shared / "data" / row["path"])}
            for row in csv.DictReader(file)
            if row["source"] == source
        ]
    table = tmp_path / f"{source}.csv"
    with open(table, "w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.mark.slow
@pytest.mark.parametrize("source", ["busi", "brain_tumor_mri"])
def test_precision_agrees_with_what_other_code_measured(shared, ray_session, tmp_path, source):
    weights = shared / "weights" / "mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors"
    study = tmp_path / "study"
    flags = [
        "--encoder",
        "pixels32",
        "--encoder",
        "mobilenetv2=timm:mobilenetv2_100,pad_type=same",
        "--weights",
        f"mobilenetv2={weights}",
    ]
    assert main(["run", "csv", str(part(shared, tmp_path, source)), "--study", str(study), *flags]) == 0
    metrics = pq.read_table(study / "metrics" / "metrics.parquet").to_pylist()
    for (where, encoder), published in PUBLISHED.items():
        if where != source:
            continue
        wanted = {
            "encoder": encoder,
            "index": "exact",
            "metric": "precision_at_k",
            "relevance": "label",
            "k": 5,
            "slice_by": "all",
            "average": "micro",
        }
        (row,) = [m for m in metrics if all(m[key] == value for key, value in wanted.items())]
        assert row["value"] == pytest.approx(published, abs=0.0015), (source, encoder)
        assert row["chance"] == pytest.approx(CHANCE[source], abs=0.0015)
        assert row["n_failed"] == 0
    recall = [m["value"] for m in metrics if m["metric"] == "ann_recall" and m["k"] == 10 and m["slice_by"] == "all"]
    assert min(recall) > 0.95
    run = json.loads((study / "embeddings" / "encoder=mobilenetv2" / "run.json").read_text())
    assert run["spec"]["geometry"]["resize"] == 256
