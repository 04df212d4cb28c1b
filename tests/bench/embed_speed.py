"""cbmir embed against a plain torch DataLoader loop: same images, same encoder, float32 on the CPU, each at its best.

The loop's model is loaded before its clock starts; the pipeline's rate is taken from its first file to its last, and the
time to its first file is shown apart.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import torch
from PIL import Image
from timm.data import create_transform

from cbmir.cluster import ray_session
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.modules import load
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.table import resolve
from cbmir.schemas import image_key
from cbmir.store import Study, path_name
from tests.bench.collection import draw, plain_files, study_of

ENCODERS = {"timm:mobilenetv2_100~random0": 600, "timm:vit_small_patch16_224~random0": 240}  # and how many images
TRIAL, REPEATS = 48, 3


class Files(torch.utils.data.Dataset):
    """Image files with timm's own evaluation transform."""

    def __init__(self, files: list[Path], count: int, spec: EncoderSpec) -> None:
        self.files, self.count = files, count
        geometry = spec.geometry
        self.transform = create_transform(
            (3, geometry.size, geometry.size),
            interpolation=geometry.interpolation,
            mean=spec.mean,
            std=spec.std,
            crop_pct=geometry.size / (geometry.resize or geometry.size),
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[i % len(self.files)]).convert("RGB"))


def loop(
    files: list[Path], count: int, spec: EncoderSpec, *, workers: int, threads: int, batch: int, channels_last: bool
):
    """The DataLoader loop -> (seconds, vectors (count, dim) float32)."""
    torch.set_num_threads(threads)
    model = load(spec).eval()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    loader = torch.utils.data.DataLoader(Files(files, count, spec), batch_size=batch, num_workers=workers)
    began, out = time.perf_counter(), []
    with torch.inference_mode():
        for images in loader:
            out.append(model(images.to(memory_format=layout)).numpy())
    return time.perf_counter() - began, np.concatenate(out)


def best_loop(files: list[Path], spec: EncoderSpec) -> dict:
    """The loop's fastest setting on a short run."""
    settings = [
        {"workers": workers, "threads": threads, "batch": batch, "channels_last": layout}
        for workers, threads in ((0, 2), (1, 2), (2, 1), (2, 2))
        for batch in (16, 64)
        for layout in (False, True)
    ]
    return min(settings, key=lambda s: loop(files, TRIAL, spec, **s)[0])


def pipeline(files: list[Path], count: int, name: str, scratch: Path) -> tuple[float, float, Study]:
    """cbmir embed in a running Ray -> (images/s from its first file to its last, seconds to the first, study)."""
    study = study_of(files, count, scratch / f"study-{time.monotonic_ns()}")
    began = time.time()
    embed(study, [name], EmbedOptions(device="cpu", precision="float32", batch_size=16), say=lambda line: None)
    written = sorted(
        (p.stat().st_mtime, pq.ParquetFile(p).metadata.num_rows) for p in folder(study, name).glob("*.parquet")
    )
    after_first = sum(rows for _, rows in written[1:])
    return after_first / (written[-1][0] - written[0][0]), written[0][0] - began, study


def folder(study: Study, name: str) -> Path:
    return Path(study.root, "embeddings", f"encoder={path_name(name)}")


def run(scratch: Path) -> None:
    files = plain_files(draw(scratch))
    began = time.perf_counter()
    with ray_session("local"):
        print(f"  Ray starts in {time.perf_counter() - began:.1f} s")
        for name, count in ENCODERS.items():
            compare(files, name, count, scratch)


def compare(files: list[Path], name: str, count: int, scratch: Path) -> None:
    spec = resolve(name)
    best = best_loop(files, spec)
    rates: dict[str, list[float]] = {"loop": [], "cbmir": []}
    startup = []
    for _ in range(REPEATS):
        seconds, vectors = loop(files, count, spec, **best)
        rates["loop"].append(count / seconds)
        rate, first, study = pipeline(files, count, name, scratch)
        rates["cbmir"].append(rate)
        startup.append(first)
    ratio = float(np.median(np.array(rates["cbmir"]) / np.array(rates["loop"])))
    print(f"  {name}: {spec.geometry.size} px, {count} images, median of {REPEATS}")
    print(f"    DataLoader loop {np.median(rates['loop']):7.1f} images/s  at its best: {best}")
    print(f"    cbmir embed     {np.median(rates['cbmir']):7.1f} images/s  ratio {ratio:.2f}, once its actors are up")
    print(
        f"    first results after {np.median(startup):.1f} s; least cosine between both outputs {agreement(study, name, vectors):.6f}"
    )


def agreement(study: Study, name: str, vectors: np.ndarray) -> float:
    """Least cosine between the pipeline's vectors and the loop's, image by image."""
    table = pads.dataset([str(p) for p in folder(study, name).glob("*.parquet")]).to_table()
    ours = dict(zip(table["image_key"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    mine = np.array([ours[image_key(f"bench/{i}")] for i in range(len(vectors))], np.float64)
    return float(((mine * vectors).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(vectors, axis=1)).min())
