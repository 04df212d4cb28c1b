"""The loop that `cbmir embed` is compared with: what a published script does, one process a core.

Each process holds the model in float32, takes its share of the images through a DataLoader with timm's own transform, and writes one HDF5
dataset an image. Its clock starts when every process has its model.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np

BATCH = 32


def published_loop(
    files: list[Path], count: int, name: str, scratch: Path, *, processes: int
) -> tuple[float, float, dict[int, np.ndarray]]:
    """`count` images, the files over and over -> (images/s, seconds until every process had its model, vectors by position)."""
    import h5py

    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    shares = [list(range(p, count, processes)) for p in range(processes)]
    targets = [scratch / f"loop-{time.monotonic_ns()}-{p}.h5" for p in range(processes)]
    workers = [
        context.Process(target=_work, args=(files, share, name, target, ready))
        for share, target in zip(shares, targets, strict=True)
    ]
    asked = time.perf_counter()
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"the loop for {name} ended with {[worker.exitcode for worker in workers]}")
    vectors = {}
    for target in targets:
        with h5py.File(target) as file:
            vectors |= {int(key): file[key][:] for key in file}
    return count / seconds, began - asked, vectors


def _work(files: list[Path], share: list[int], name: str, target: Path, ready) -> None:
    import h5py
    import torch
    from PIL import Image
    from timm.data import create_transform

    from cbmir.encoders.modules import load
    from cbmir.encoders.table import resolve

    torch.set_num_threads(1)
    spec = resolve(name)
    model, geometry = load(spec, None).eval(), spec.geometry
    transform = create_transform(
        (3, geometry.size, geometry.size),
        interpolation=geometry.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=geometry.size / (geometry.resize or geometry.size),
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(share)

        def __getitem__(self, i: int):
            return share[i], transform(Image.open(files[share[i] % len(files)]).convert("RGB"))

    ready.wait()
    with torch.inference_mode(), h5py.File(target, "w") as file:
        for numbers, images in torch.utils.data.DataLoader(Files(), batch_size=BATCH):
            for number, vector in zip(numbers.tolist(), model(images).numpy(), strict=True):
                file.create_dataset(str(number), data=vector)
