"""Real radiographs and ultrasound with real weights, where the samples are at hand: figures that other code measured.

P@5, gallery = train, queries = test within one source, cosine (the samples' README). Weights that were trained must beat the pixels
themselves and the same architecture untrained. Encoders are given as files of one's own (docs/encoders.md).
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from cbmir.cli import main

pytestmark = pytest.mark.slow

MOBILENET = "mobilenetv2_100.tfqat_in1k_imagenetnorm.safetensors"
SQUEEZENET = "squeezenet1_0.deepcompression_in1k.safetensors"
SPECS = {
    "mobilenetv2": """
        model = "timm:mobilenetv2_100"
        options = { pad_type = "same" }
        weights = "{weights}/{mobilenet}"
        dim = 1280
    """,
    "squeezenet": """
        model = "torchvision:squeezenet1_0"
        weights = "{weights}/{squeezenet}"
        output = "map_mean"
        dim = 512
        size = 224
        resize = 256
        interpolation = "bicubic"
        mean = "imagenet"
        std = "imagenet"
    """,
}
PUBLISHED = {
    "busi": {"mobilenetv2": 0.576, "pixels32": 0.422, "mobilenetv2~random0": 0.400},
    "brain_tumor_mri": {"mobilenetv2": 0.794, "pixels32": 0.723, "mobilenetv2~random0": 0.532},
}
CHANCE = {"busi": 0.388, "brain_tumor_mri": 0.250}


@dataclass(frozen=True)
class Whole:
    """A study that went the whole way, and the samples that it is of."""

    source: str
    root: Path
    rows: list[dict[str, str]]

    def figures(self, **wanted) -> list[dict]:
        metrics = pq.read_table(self.root / "metrics" / "metrics.parquet").to_pylist()
        return [row for row in metrics if all(row[key] == value for key, value in wanted.items())]

    def precision(self, encoder: str) -> dict:
        """The row of P@5, same label, averaged over queries, by exact search."""
        (row,) = self.figures(encoder=encoder, index="exact", metric="precision_at_k", relevance="label", k=5, slice_by="all",
                              average="micro")  # fmt: skip
        return row

    def vectors(self, encoder: str) -> np.ndarray:
        """(rows, dim) float32, in the order of the rows; read by DuckDB alone."""
        found = duckdb.sql(
            f"SELECT uri, embedding FROM '{self.root}/manifest/*.parquet' "
            f"JOIN '{self.root}/embeddings/encoder={encoder}/*.parquet' USING (image_key)"
        ).fetchall()
        by_path = dict(found)
        return np.array([by_path[row["path"]] for row in self.rows], np.float32)

    def run(self, encoder: str) -> dict:
        return json.loads((self.root / "embeddings" / f"encoder={encoder}" / "run.json").read_text())


@pytest.fixture(scope="module", params=list(PUBLISHED))
def whole(request, shared, ray_session, tmp_path_factory) -> Whole:
    """Pixels, two trained encoders, and the same two untrained, on gallery and queries of one source."""
    directory = tmp_path_factory.mktemp("real")
    with open(shared / "data" / "images.csv", newline="") as file:
        rows = [
            row | {"path": str(shared / "data" / row["path"])}
            for row in csv.DictReader(file)
            if row["source"] == request.param and row["split"] != "val"
        ]
    with open(directory / "images.csv", "w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    encoders = ["pixels32"]
    for name, text in SPECS.items():
        file = directory / f"{name}.toml"
        for key, value in (("weights", shared / "weights"), ("mobilenet", MOBILENET), ("squeezenet", SQUEEZENET)):
            text = text.replace("{" + key + "}", str(value))
        file.write_text(text)
        encoders += [str(file), f"{file}~random0"]
    flags = [part for encoder in encoders for part in ("--encoder", encoder)]
    study = directory / "study"
    assert main(["run", "csv", str(directory / "images.csv"), "--study", str(study), *flags]) == 0
    return Whole(request.param, study, rows)


def test_precision_agrees_with_what_other_code_measured(whole):
    for encoder, published in PUBLISHED[whole.source].items():
        row = whole.precision(encoder)
        assert row["value"] == pytest.approx(published, abs=0.0015), encoder
        assert row["chance"] == pytest.approx(CHANCE[whole.source], abs=0.0015)
        assert row["n_failed"] == 0
    recall = [row["value"] for row in whole.figures(metric="ann_recall", k=10, slice_by="all")]
    assert len(recall) >= 5
    assert min(recall) > 0.95


@pytest.mark.parametrize("name", SPECS)
def test_trained_weights_beat_pixels_and_their_own_architecture_untrained(whole, name):
    found = {encoder: whole.precision(encoder)["value"] for encoder in (name, f"{name}~random0", "pixels32")}
    print(f"{whole.source}: P@5 {found}")
    assert found[name] > found["pixels32"] + 0.05
    assert found[name] > found[f"{name}~random0"] + 0.05


@pytest.mark.parametrize(("name", "file"), [("mobilenetv2", MOBILENET), ("squeezenet", SQUEEZENET)])
def test_run_json_says_which_weights(whole, shared, name, file):
    path = shared / "weights" / file
    run = whole.run(name)
    assert run["weights"] == {
        "address": str(path),
        "revision": None,
        "file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert run["random_weights"] is None
    assert run["spec"]["geometry"] | {"mode": "short_side", "size": 224, "resize": 256} == run["spec"]["geometry"]
    untrained = whole.run(f"{name}~random0")
    assert (untrained["weights"], untrained["random_weights"]) == (None, 0)
    assert untrained["weights_sha256"] != run["weights_sha256"]


def plain_loop(weights: Path, paths: list[str]) -> np.ndarray:
    """SqueezeNet as torchvision's own code has it: paths -> (n, 512), the mean of the last map."""
    model = torchvision.models.squeezenet1_0()
    model.load_state_dict(load_file(weights))
    model.eval()
    transform = Compose([
        Resize(256, InterpolationMode.BICUBIC), CenterCrop(224), ToTensor(), Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    found = []
    with torch.inference_mode():
        for start in range(0, len(paths), 16):
            batch = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + 16]]
            found.append(model.features(torch.stack(batch)).mean((2, 3)).numpy())
    return np.concatenate(found)


def precision_at_5(vectors: np.ndarray, rows: list[dict[str, str]]) -> float:
    """Share of each test image's five nearest train images that have its label."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels, is_query = np.array([row["labels"] for row in rows]), np.array([row["split"] == "test" for row in rows])
    nearest = np.argsort(-units[is_query] @ units[~is_query].T, axis=1, kind="stable")[:, :5]
    return float((labels[~is_query][nearest] == labels[is_query][:, None]).mean())


def test_squeezenet_agrees_with_torchvisions_own_in_a_plain_loop(whole, shared):
    reference = plain_loop(shared / "weights" / SQUEEZENET, [row["path"] for row in whole.rows]).astype(np.float64)
    vectors = whole.vectors("squeezenet").astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1), np.linalg.norm(reference, axis=1)
    cosines = (vectors * reference).sum(1) / lengths[0] / lengths[1]
    wanted, found = precision_at_5(reference, whole.rows), whole.precision("squeezenet")["value"]
    print(
        f"{whole.source}: least cosine {cosines.min():.7f} of {len(cosines)}; P@5 {found:.4f}, in the plain loop {wanted:.4f}"
    )
    assert cosines.min() >= 0.9999
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-3)
    assert found == pytest.approx(wanted, abs=0.0025)


def test_more_images_retrieve_better_and_trained_weights_at_every_size(whole):
    """The study of index sizes: at all images the figures that other code measured, with fewer of them less, and trained weights ahead everywhere."""
    arguments = [
        "--encoder",
        "mobilenetv2",
        "--encoder",
        "pixels32",
        "--sizes",
        "50,200,all",
        "--seeds",
        "2",
        "--sampling",
        "stratified",
    ]
    assert (
        main(["study", "index-size", "--study", str(whole.root), *arguments, "--k", "5", "--index", "exact,graph"]) == 0
    )
    figures = duckdb.sql(
        f"SELECT encoder, sample_size, avg(value) AS value, count(*) AS seeds FROM '{whole.root}/scaling/*.parquet' WHERE index = 'exact' AND "
        "metric = 'precision_at_k' AND relevance = 'label' AND slice_by = 'all' AND average = 'micro' GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    curves = {name: [row[2] for row in figures if row[0] == name] for name in ("mobilenetv2", "pixels32")}
    print(f"{whole.source}: P@5 by size {curves}")
    assert {row[3] for row in figures} == {2}
    for name, curve in curves.items():
        assert curve[-1] == pytest.approx(PUBLISHED[whole.source][name], abs=0.0015)
    assert curves["mobilenetv2"][-1] > curves["mobilenetv2"][0] + 0.02
    assert all(trained > pixels for trained, pixels in zip(curves["mobilenetv2"], curves["pixels32"], strict=True))
    costs = duckdb.sql(f"FROM '{whole.root}/scaling_costs/*.parquet' WHERE index <> 'exact'").df()
    assert len(costs) == 2 * 2 * 3 * 2
    assert costs["recall"].min() > 0.95
