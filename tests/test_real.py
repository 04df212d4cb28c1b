"""Real images, where the samples are at hand: figures that other code measured. Those with real weights: test_real_weights.py."""

import pyarrow.parquet as pq
import pytest

from cbmir.cli import main


def test_a_medmnist_file_goes_the_whole_way_without_being_unpacked(shared, ray_session, tmp_path):
    study = tmp_path / "study"
    file = shared / "data" / "npz" / "breastmnist_resaved.npz"
    assert main(["run", "medmnist", str(file), "--study", str(study), "--encoder", "pixels32"]) == 0
    found = pq.read_table(study / "metrics" / "metrics.parquet").to_pylist()
    (row,) = [m for m in found if m["metric"] == "precision_at_k" and m["index"] == "exact" and m["relevance"] == "label" and m["k"] == 1
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
