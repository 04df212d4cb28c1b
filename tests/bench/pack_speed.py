"""cbmir pack, and cbmir embed from full-size radiographs against the same from their packed images, in turn, with a light encoder.

Rates are those that `cbmir embed` tells of itself, from its first block to its last; packing is timed as a whole in a running Ray. Processor time
does not grow with what else the machine does.
"""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np

from cbmir.cluster import ray_session
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.table import resolve
from cbmir.images.channels import in_grey
from cbmir.images.geometry import apply, reduction
from cbmir.images.read import read_pixels
from cbmir.images.shrunk import Shrink, as_png, decoded, shrunk, unpacked
from cbmir.pack import PackOptions, pack_images
from cbmir.select import keys_where
from cbmir.store import Study, path_name
from cbmir.vectors import Vectors
from tests.bench.collection import study_of
from tests.bench.radiographs import radiographs

ENCODER = "timm:mobilenetv3_small_100~random0"
IMAGES, REPEATS, SHORT_SIDE = 480, 3, 512
BATCH = 16  # a small one: what is decoded while the encoders are still loading is counted, and is a few batches


def run(scratch: Path) -> None:
    files = radiographs(scratch)
    print(f"  {ENCODER}, {IMAGES} images, short side {SHORT_SIDE}, median of {REPEATS} in turn", flush=True)
    with ray_session("local"):
        for suffix in (".jpg", ".png"):
            compare([file for file in files if file.suffix == suffix], suffix, scratch)


def compare(files: list[Path], suffix: str, scratch: Path) -> None:
    rounds = [once(files, scratch / f"pack{suffix}-{i}") for i in range(REPEATS)]
    found = {name: float(np.median([told[name] for told in rounds])) for name in rounds[0]}
    cpu = cpu_milliseconds(list(map(str, files)))
    before = sum(file.stat().st_size for file in files) / len(files) / 1e6
    ratio = float(np.median([told["packed"] / told["files"] for told in rounds]))
    print(f"  {suffix}: {before:.2f} MB a file, {found['megabytes']:.2f} MB packed")
    print(
        f"    pack            {found['pack']:7.1f} images/s  {cpu['pack']:5.1f} ms of processor time each, one thread"
    )
    print(f"    embed           {found['files']:7.1f} images/s  {cpu['files']:5.1f} ms to decode and resize")
    print(f"    embed --packed  {found['packed']:7.1f} images/s  {cpu['packed']:5.1f} ms to decode and resize")
    print(f"    ratio of rates {ratio:.2f}, of processor time {cpu['files'] / cpu['packed']:.2f}")
    print(f"    least cosine between both {found['cosine']:.6f}", flush=True)


def once(files: list[Path], address: Path) -> dict[str, float]:
    """One packing, and one embedding from files and from packed images."""
    study = study_of(files, IMAGES, address)
    began = time.perf_counter()
    pack_images(study, PackOptions(short_side=SHORT_SIDE), say=lambda line: None)
    seconds = time.perf_counter() - began
    found = {
        "pack": IMAGES / seconds,
        "megabytes": study.require("packed")["bytes"] / IMAGES / 1e6,
        "files": rate(study, "files", packed=False),
        "packed": rate(study, "packed", packed=True),
        "cosine": least_cosine(study),
    }
    shutil.rmtree(address)
    return found


def rate(study: Study, name: str, *, packed: bool) -> float:
    """Images a second that `cbmir embed` tells of its run."""
    embed(
        study, [f"{name}={ENCODER}"], EmbedOptions(device="cpu", batch_size=BATCH, packed=packed), say=lambda line: None
    )
    directory = f"encoder={path_name(f'{name}~random0')}"
    return study.require("embeddings", directory)["last_attempt"]["images_per_second"]


def cpu_milliseconds(files: list[str]) -> dict[str, float]:
    """Processor time an image, in this process and alone: to pack it, and until it is pixels for the encoder, of its file and packed."""
    how, geometry = Shrink(SHORT_SIDE), resolve(ENCODER).geometry
    reduce = partial(reduction, geometries=[geometry])
    began = time.process_time()
    packed = [as_png(shrunk(decoded(file, how)[0], how)) for file in files]
    between = time.process_time()
    for file in files:
        apply(geometry, in_grey(read_pixels(file, reduce)))
    last = time.process_time()
    for image in packed:
        apply(geometry, unpacked(image))
    spent = {"pack": between - began, "files": last - between, "packed": time.process_time() - last}
    return {name: 1000 * seconds / len(files) for name, seconds in spent.items()}


def least_cosine(study: Study) -> float:
    keys = keys_where(study, "true", role="gallery")["image_key"].to_numpy()
    a, b = (Vectors(study, f"{name}~random0").load(keys)[1].astype(np.float64) for name in ("files", "packed"))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
