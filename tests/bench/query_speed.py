"""cbmir query behind its loading: one image at a time against an index of 100,000.

The encoder is that of a real `cbmir embed` with untrained weights. It embeds some drawn images; the gallery is drawn around their vectors,
so that a query walks among neighbors, and is written with the run.json that the embedding left.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from cbmir.cluster import ray_session
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.index import IndexOptions, build_index
from cbmir.lookup import Lookup
from cbmir.querying.inputs import Query
from cbmir.schemas import embeddings
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors
from tests.bench.collection import draw, plain_files, study_of
from tests.bench.radiographs import radiographs

ENCODERS = ("timm:mobilenetv2_100~random0", "timm:vit_small_patch16_224~random0", "timm:vit_base_patch16_224~random0")
ROWS, EMBEDDED, K = 100_000, 64, 10
WARM, ASKED = 5, 40
SPREAD = 0.5  # of the drawn gallery around embedded images, in standard deviations of theirs


def run(scratch: Path) -> None:
    files = plain_files(draw(scratch))
    small = study_of(files, EMBEDDED, scratch / "embedded")
    with ray_session("local"):
        embed(small, list(ENCODERS), EmbedOptions(), say=lambda line: None)
    large = study_of(files, ROWS, scratch / "gallery")
    large_files = radiographs(scratch)
    queries = {
        "192 to 320 px": files[-ASKED - WARM :],
        "JPEG, 2,500 x 3,000 px": [file for file in large_files if file.suffix == ".jpg"],
        "PNG, 2,500 x 3,000 px": [file for file in large_files if file.suffix == ".png"],
    }
    print(
        f"  {ROWS:,} images in gallery and manifest, k = {K}, one image at a time, {len(os.sched_getaffinity(0))} cores; "
        f"{ASKED} images, 15 of the large ones, behind {WARM} that do not count; ms an image"
    )
    for encoder in ENCODERS:
        grown(small, large, encoder)
        build_index(large, encoder, "hnsw", IndexOptions())
        for index in ("hnsw", "exact"):
            measure(large, encoder, index, queries)


def grown(small: Study, large: Study, encoder: str) -> None:
    """Embeddings of `large`, drawn around those of `small`, under the run.json of `small`."""
    vectors = Vectors(small, encoder)
    _, known = vectors.load(np.sort(small.dataset("manifest").to_table()["image_key"].to_numpy()))
    keys = large.dataset("manifest").to_table(columns=["image_key"])["image_key"]
    rng = np.random.default_rng(0)
    drawn = known[rng.integers(0, len(known), len(keys))]
    drawn += SPREAD * known.std(axis=0) * rng.standard_normal(drawn.shape, dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(drawn.ravel()), vectors.dim)
    schema = embeddings(vectors.dim)
    directory = f"encoder={path_name(encoder)}"
    table = pa.table([keys.combine_chunks(), lists.cast(schema.field(1).type)], schema=schema)
    large.write_table(table, "embeddings", directory, "drawn.parquet")
    inputs = vectors.run["inputs"] | {"manifest": large.require("manifest")["fingerprint"]}
    large.write_json(vectors.run | {"rows": len(keys), "inputs": inputs}, "embeddings", directory, "run.json")


def measure(study: Study, encoder: str, index: str, queries: dict[str, list[Path]]) -> None:
    """Print the median and the 95th percentile of one lookup, and how much of it the forward pass is."""
    began = time.perf_counter()
    lookup = Lookup(study, encoder, index)
    lookup.load()
    loaded = time.perf_counter() - began
    for what, images in queries.items():
        found = np.array([one(lookup, image) for image in images])[WARM:]
        took, forward = 1000 * found.T
        print(
            f"  {encoder:<36}{index:<6} {what:<23} median {np.median(took):6.1f}, 95th percentile {np.percentile(took, 95):6.1f}; "
            f"forward pass {np.median(forward):5.1f}, all else {np.median(took - forward):5.1f}; loaded in {loaded:.1f} s",
            flush=True,
        )


def one(lookup: Lookup, image: Path) -> tuple[float, float]:
    """Seconds of one lookup, and of its forward pass."""
    began, busy = time.perf_counter(), lookup.images.model.busy
    (answer,) = lookup.answers([Query(str(image), str(image))], k=K)
    took = time.perf_counter() - began
    assert answer.error is None
    assert len(answer.neighbors) == K
    return took, lookup.images.model.busy - busy
