"""cbmir embed against the loop of a published script: same images, same encoder, same cores, in one run; and five encoders against one.

Rates leave start-up out on both sides, and it is shown apart: the loop's clock starts when its models are loaded, the pipeline's when an
encoder takes its first block.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads

from cbmir.cluster import ray_session
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.schemas import image_key
from cbmir.store import Study, path_name
from tests.bench.collection import draw, plain_files, study_of
from tests.bench.published_loop import BATCH, published_loop
from tests.bench.radiographs import radiographs

SMALL = {"timm:vit_small_patch16_224~random0": 480, "timm:mobilenetv2_100~random0": 960}  # and how many images
FIVE = [
    f"timm:{name}~random0"
    for name in (
        "vit_small_patch16_224",
        "vit_tiny_patch16_224",
        "deit_tiny_patch16_224",
        "vit_small_patch32_224",
        "vit_base_patch32_224",
    )
]  # one geometry: short side 248, bicubic, centre of 224
RADIOGRAPHS, REPEATS = 160, 3


def run(scratch: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    files = plain_files(draw(scratch))
    with ray_session("local"):
        print(
            f"  loop: float32, {cores} processes of one thread, DataLoader with batches of {BATCH}, HDF5 row by row; medians of {REPEATS}"
        )
        for name, count in SMALL.items():
            against_the_loop(files, name, count, scratch, cores, "drawn PNG and JPEG of 192 to 320 px")
        large = radiographs(scratch)
        against_the_loop(large, FIVE[0], RADIOGRAPHS, scratch, cores, "radiographs of 2,500 x 3,000 px")
        five_against_one(large, scratch)


def against_the_loop(files: list[Path], name: str, count: int, scratch: Path, cores: int, images: str) -> None:
    loops, ours, starts = [], [], []
    for _ in range(REPEATS):
        rate, start, vectors = published_loop(files, count, name, scratch, processes=cores)
        study, told = pipeline(files, count, [name], scratch)
        loops.append(rate)
        ours.append(told["images_per_second"])
        starts.append((start, told["start_up_seconds"]))
    print(f"  {name}, {count} {images}")
    print(f"    loop  {np.median(loops):7.1f} images/s")
    print(
        f"    cbmir {np.median(ours):7.1f} images/s  ratio {np.median(np.array(ours) / loops):.2f}, "
        f"saturation {told['saturation']:.2f}, bottleneck {told['bottleneck']}"
    )
    before = np.median(starts, axis=0)
    least = agreement(study, name, vectors)
    print(
        f"    start-up {before[0]:.1f} and {before[1]:.1f} s; least cosine between both outputs {least:.6f}", flush=True
    )
    if least < 0.999:
        raise RuntimeError(f"{name}: cosine {least:.6f} between the loop's vectors and cbmir's; expected 0.999 or more")


def five_against_one(files: list[Path], scratch: Path) -> None:
    """Images times encoders a second: all five in one pass, against each of them in a pass of its own."""
    ratios = []
    for _ in range(REPEATS):
        alone = [pipeline(files, RADIOGRAPHS, [name], scratch)[1]["images_per_second"] for name in FIVE]
        together = pipeline(files, RADIOGRAPHS, FIVE, scratch)[1]["images_per_second"]
        passes = sum(1 / rate for rate in alone)  # seconds an image, all five
        ratios.append((together * passes, together, alone))
    ratio, together, alone = sorted(ratios)[len(ratios) // 2]
    print(f"  five encoders of one geometry, {RADIOGRAPHS} radiographs of 2,500 x 3,000 px")
    print(
        f"    alone    {', '.join(f'{rate:.1f}' for rate in alone)} images/s: one pass each, {sum(1 / r for r in alone):.3f} s an image"
    )
    print(f"    together {together:.1f} images/s: one pass, {1 / together:.3f} s an image")
    print(f"    an encoder's share of the time is {ratio:.2f} times smaller together", flush=True)


def pipeline(files: list[Path], count: int, names: list[str], scratch: Path) -> tuple[Study, dict]:
    """cbmir embed in a running Ray -> the study, and what its run tells."""
    study = study_of(files, count, scratch / f"study-{time.monotonic_ns()}")
    embed(study, names, EmbedOptions(device="cpu"), say=lambda line: None)
    return study, study.require("embeddings", f"encoder={path_name(names[0])}")["last_attempt"]


def agreement(study: Study, name: str, vectors: dict[int, np.ndarray]) -> float:
    """Least cosine between the pipeline's vectors and the loop's, image by image."""
    directory = Path(study.root, "embeddings", f"encoder={path_name(name)}")
    table = pads.dataset([str(p) for p in directory.glob("*.parquet")]).to_table()
    ours = dict(zip(table["image_key"].to_pylist(), table["embedding"].to_pylist(), strict=True))
    mine = np.array([ours[image_key(f"bench/{i}")] for i in sorted(vectors)], np.float64)
    theirs = np.array([vectors[i] for i in sorted(vectors)], np.float64)
    return float(((mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)).min())
