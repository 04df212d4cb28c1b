"""Listings of published size -> manifest: time and peak memory, beside row-by-row loops as published scripts have them.

The loops get the first LOOP_ROWS rows of the same files and their time is scaled up to all rows.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import time
from pathlib import Path

LISTED = 1_350_000  # images of RadImageNet
ROWS, LABELS = 1_600_000, 161  # of the first paper's experiments
LOOP_ROWS = 20_000
_FOLDERS = [f"{m}/{r}/{f}" for m, rs in (("CT", ("abd", "lung")), ("MR", ("af", "brain", "knee", "spine"))) for r in rs for f in
            ("normal", "lesion", "fracture", "edema", "cyst", "tear", "mass")] + ["US/thyroid_nodule", "US/thyroid", "US/gb", "US/kidney"]  # fmt: skip


def run(scratch: Path) -> None:
    _measured("RadImageNet-sized listing", LISTED, radimagenet(scratch / "radimagenet"), "radimagenet", loop_over_paths)
    _measured(f"one-hot CSV, {LABELS} labels", ROWS, one_hot(scratch / "all.csv"), "denner-csv", loop_over_labels)


def _measured(what: str, rows: int, root: Path, source: str, loop) -> None:
    study = root.parent / f"{source}-study"
    began = time.perf_counter()
    peak = peak_memory("manifest", source, str(root), "--study", str(study))
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    loop(root)
    looped = (time.perf_counter() - began) * rows / LOOP_ROWS
    print(
        f"  {what}: {rows:,} rows in {seconds:.0f} s, peak {peak:.1f} GiB; row-by-row loop {looped:,.0f} s "
        f"(from {LOOP_ROWS:,} rows), ratio {looped / seconds:.0f}",
        flush=True,
    )


def radimagenet(root: Path) -> Path:
    """Label files in the owners' format, and an empty file for each of every tenth row's images."""
    root.mkdir()
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    shares = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}
    for split, tens in shares.items():
        with open(root / f"RadiologyAI_{split}.csv", "w") as file:
            file.write("filename\n")
            file.writelines(f"{_FOLDERS[i % len(_FOLDERS)]}/img{i:07d}.png\n" for i in range(LISTED) if i % 10 in tens)
    for i in range(0, LISTED, 10):
        (root / _FOLDERS[i % len(_FOLDERS)] / f"img{i:07d}.png").touch()
    return root


def one_hot(path: Path) -> Path:
    """A split file of the published layout: one label a row."""
    names = ",".join(f"XR/chest/finding {i:03d}" for i in range(LABELS))
    cells = [",".join("1" if i == j else "0" for i in range(LABELS)) for j in range(LABELS)]
    with open(path, "w") as file:
        file.write(f"filepath,dataset,split,modality,anatomic_region,{names}\n")
        file.writelines(
            f"img/{i:07d}.png,syn,{'test' if i % 10 == 9 else 'train'},XR,chest,{cells[i % LABELS]}\n"
            for i in range(ROWS)
        )
    return path


def loop_over_paths(root: Path) -> list[dict]:
    """Labels out of paths, a row at a time with pandas."""
    import pandas as pd

    rows = []
    for _, row in pd.read_csv(root / "RadiologyAI_train.csv", nrows=LOOP_ROWS).iterrows():
        parts = row["filename"].split("/")
        exists = (root / row["filename"]).exists()
        rows.append(
            {"filepath": row["filename"], "label": "/".join(parts[:-1]), "modality": parts[0], "exists": exists}
        )
    return rows


def loop_over_labels(path: Path) -> list[dict]:
    """Labels out of one-hot columns, a row at a time with pandas."""
    import pandas as pd

    frame = pd.read_csv(path, nrows=LOOP_ROWS)
    with open(path) as file:
        labels = next(csv.reader(file))[5:]
    return [
        {"filepath": row["filepath"], "labels": [name for name in labels if row[name] == 1]}
        for _, row in frame.iterrows()
    ]


def peak_memory(*arguments: str) -> float:
    """Highest resident memory of one cbmir process, in GiB."""
    code = "import sys; from cbmir.cli import main; code = main(sys.argv[1:]); print(open('/proc/self/status').read()); sys.exit(code)"
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return int(re.search(r"VmHWM:\s+(\d+) kB", result.stdout).group(1)) / 2**20
