"""A study of drawn vectors of any size, without images: manifest and embeddings as their stages leave them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cbmir.encoders.table import resolve
from cbmir.schemas import MANIFEST, embeddings, image_key
from cbmir.store import Study, run_record
from tests.bench.vectors import CLUSTERS, drawn_with_clusters

LABELS, ROWS_PER_FILE = 161, 16_384
MODALITIES = ("XR", "CT", "MR", "US")
REGIONS = ("chest", "abdomen", "head", "knee", "hip", "spine", "hand", "foot", "neck", "shoulder", "breast", "pelvis")
ENCODER = "drawn"


def make(
    study: Study,
    *,
    gallery: int,
    queries: int,
    dim: int,
    spread: float,
    dtype: str = "float32",
    val: int = 0,
    slices: int | None = None,
) -> None:
    """`gallery` images of split train and `queries` of test, the last `val` of them of val; a cluster's label is its number modulo LABELS.

    slices: of a volume, where the images are slices; those of a volume are of one cluster.
    """
    n = gallery + queries
    ids = [f"drawn/{i}" for i in range(n)]
    keys = np.fromiter(map(image_key, ids), np.int64, n)
    clusters = np.empty(n, np.int64)
    contract = embeddings(dim, dtype=dtype)
    directory = f"encoder={ENCODER}"
    for start, stop, part in _pieces(gallery, queries):
        for at in range(start, stop, ROWS_PER_FILE):
            rows = slice(at, min(stop, at + ROWS_PER_FILE))
            vectors, clusters[rows] = drawn_with_clusters(
                rows.stop - at, dim, seed=[part, at], spread=spread, together=slices or 1
            )
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
            table = pa.table([pa.array(keys[rows]), column.cast(contract.field(1).type)], schema=contract)
            study.write_table(table, "embeddings", directory, f"{part}-{at:08d}.parquet")
    splits = np.repeat(["train", "test", "val"], [gallery, queries - val, val])
    _manifest(study, ids, keys, clusters % LABELS, splits, slices)
    run = run_record(
        "embed",
        parameters={"encoder": ENCODER, "dtype": dtype},
        inputs={"manifest": study.require("manifest")["fingerprint"]},
        rows=n,
        failed=0,
        dim=dim,
        dtype=dtype,
        precision="float32",
        random_weights=None,
        weights_sha256="none",
        spec=resolve("pixels32").as_dict(),
    )
    study.write_json(run, "embeddings", directory, "run.json")


def _pieces(gallery: int, queries: int) -> list[tuple[int, int, int]]:
    return [(0, gallery, 0), (gallery, gallery + queries, 1)]


def _manifest(
    study: Study, ids: list[str], keys: np.ndarray, labels: np.ndarray, splits: np.ndarray, slices: int | None
) -> None:
    n = len(ids)
    places = [(MODALITIES[label % 4], REGIONS[label // 4 % 12]) for label in range(LABELS)]
    names = np.array([f"{modality}/{region}/{i:03d}" for i, (modality, region) in enumerate(places)], object)
    columns = {
        "image_id": ids,
        "image_key": keys,
        "uri": [f"{i}.png" for i in ids],
        "dataset": ["drawn"] * n,
        "split": splits.astype(object),
        "modality": np.array([modality for modality, _ in places], object)[labels],
        "region": np.array([region for _, region in places], object)[labels],
        "labels": [[name] for name in names[labels]],
        "unknown_labels": [[]] * n,
        "patient_id": [f"{split}{i // (3 * (slices or 1))}" for i, split in enumerate(splits)],
    }
    if slices:
        columns |= {"volume_id": [f"drawn/v{i // slices}" for i in range(n)], "slice": np.arange(n) % slices}
    table = pa.table({f.name: pa.array(columns.get(f.name, [None] * n), f.type) for f in MANIFEST}, schema=MANIFEST)
    run = run_record("manifest", parameters={"source": "drawn", "notes": []}, inputs={"clusters": CLUSTERS}, rows=n)
    with study.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run
