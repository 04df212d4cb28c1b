"""Hand-made studies: vectors and labels go in, datasets that keep the contracts come out. No image, no Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from cbmir.datasets import Options
from cbmir.datasets.manifest import build, keyed
from cbmir.datasets.remarks import Remarks
from cbmir.encoders.table import resolve
from cbmir.schemas import FAILURES, embeddings, image_key
from cbmir.store import Study, run_record


def make_study(
    root: Path,
    rows: list[dict],
    vectors: dict[str, np.ndarray] | None = None,
    *,
    encoder: str = "pixels32",
    files: int = 1,
) -> Study:
    """rows: dicts of image_id and any manifest columns (labels as a list); vectors: image_id -> (dim,), absent: failed.

    `files` cuts the vectors into that many Parquet files.
    """
    study = Study(str(root))
    defaults = {"dataset": "hand", "split": "train", "modality": "XR", "region": "chest", "labels": []}
    full = [defaults | {"uri": f"{row['image_id']}.png"} | row for row in rows]
    names = list(dict.fromkeys(name for row in full for name in row))
    table = pa.table({name: [row.get(name) for row in full] for name in names})
    manifest = keyed(build(table, Options(), Remarks(), look_for_images=False)[0])
    run = run_record(
        "manifest", parameters={"source": "hand", "notes": []}, inputs={"content": str(root)}, rows=len(rows)
    )
    with study.publishing("manifest") as out:
        out.write_table(manifest, "manifest.parquet", "manifest")
        out.run = run
    if vectors is not None:
        add_embeddings(study, [row["image_id"] for row in rows], vectors, encoder=encoder, files=files)
    return study


def add_embeddings(
    study: Study, ids: list[str], vectors: dict[str, np.ndarray], *, encoder: str, files: int = 1
) -> None:
    """Embeddings and failures of one encoder, as the embedding stage leaves them."""
    directory = f"encoder={encoder}"
    present = [i for i in ids if i in vectors]
    dim = len(next(iter(vectors.values())))
    for part, chunk in enumerate(np.array_split(np.array(present, object), files)):
        if len(chunk):
            flat = np.concatenate([np.asarray(vectors[i], np.float32) for i in chunk])
            lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)
            table = pa.table([pa.array([image_key(i) for i in chunk], pa.int64()), lists.cast(embeddings(dim).field(1).type)],
                             schema=embeddings(dim))  # fmt: skip
            study.write_table(table, "embeddings", directory, f"{part:04d}.parquet")
    failed = [i for i in ids if i not in vectors]
    if failed:
        columns = [
            [image_key(i) for i in failed],
            [f"{i}.png" for i in failed],
            ["decode"] * len(failed),
            ["broken"] * len(failed),
        ]
        study.write_table(pa.table(columns, schema=FAILURES), "failures", directory, "0000.parquet")
    run = run_record(
        "embed",
        parameters={"encoder": "hand", "dtype": "float32"},
        inputs={"manifest": study.require("manifest")["fingerprint"]},
        rows=len(present),
        failed=len(failed),
        dim=dim,
        dtype="float32",
        precision="float32",
        decode="reduced",
        packed=None,
        random_weights=None,
        weights_sha256="none",
        spec=resolve("pixels32").as_dict(),
    )
    study.write_json(run, "embeddings", directory, "run.json")
