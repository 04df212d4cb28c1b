"""Images to measure on: drawn PNG and JPEG files of 8 bits, which every loader reads."""

from __future__ import annotations

import csv
from pathlib import Path

from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.phantoms import draw_collection
from cbmir.store import Study


def draw(scratch: Path, *, images: int = 600) -> Path:
    """A drawn collection, drawn once for all benchmarks."""
    root = scratch / "images"
    draw_collection(root, images=images, seed=0, broken=0)
    return root


def plain_files(root: Path) -> list[Path]:
    """The 8-bit PNG and JPEG files of a drawn collection."""
    with open(root / "phantoms.csv", newline="") as file:
        return [root / row["path"] for row in csv.DictReader(file) if row["format"] in ("png", "jpeg")]


def study_of(files: list[Path], count: int, address: Path) -> Study:
    """A study whose manifest names `count` images, the files over and over under ids of their own."""
    table = address.with_suffix(".csv")
    with open(table, "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("image_id", "path", "split", "modality", "region"))
        writer.writerows((f"bench/{i}", files[i % len(files)], "train", "XR", "chest") for i in range(count))
    study = Study(str(address))
    write_manifest(study, "csv", [str(table)], Options())
    return study
