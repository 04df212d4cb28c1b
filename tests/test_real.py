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


def test_a_medmnist_file_goes_the_whole_way_without_being_unpacked(shared, ray_session, tmp_path):
    study = tmp_path / "study"
    file = shared / "data" / "npz" / "breastmnist_resaved.npz"
    assert main(["run", "medmnist", str(file), "--study", str(study), "--encoder", "pixels32"]) == 0
    found = pq.read_table(study / "metrics" / "metrics.parquet").to_pylist()
    (row,) = [m for m in found if m["index"] == "exact" and m["relevance"] == "label" and m["k"] == 1
              and m["slice_by"] == "all" and m["average"] == "micro"]  # fmt: skip
    assert (row["n_queries"], row["n_failed"], row["gallery_size"]) == (156, 0, 546)
    assert row["value"] == pytest.approx(nearest_by_scikit_learn(file), abs=1e-9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study"]


def nearest_by_scikit_learn(file) -> float:
    """Share of test images whose nearest train image (32x32 bicubic, cosine) has their label."""
    import numpy as np
    from PIL import Image
    from sklearn.neighbors import KNeighborsClassifier

    arrays = np.load(file)

    def thumbnails(split):
        images = [
            Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC) for image in arrays[f"{split}_images"]
        ]
        return np.stack([np.asarray(image, np.float64).ravel() for image in images])

    classifier = KNeighborsClassifier(n_neighbors=1, metric="cosine", algorithm="brute")
    classifier.fit(thumbnails("train"), arrays["train_labels"].ravel())
    return float((classifier.predict(thumbnails("test")) == arrays["test_labels"].ravel()).mean())
