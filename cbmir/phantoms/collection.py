"""A whole collection in a directory: marker first, images in any order, phantoms.csv last."""

import csv
import json
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

from cbmir.errors import UserError
from cbmir.phantoms.catalog import LABELS
from cbmir.phantoms.files import write_row
from cbmir.phantoms.plan import Row, plan_rows

# Raise it with every change that alters a drawn byte: collections of another version are never taken for this one's.
VERSION = 1
BROKEN_SHARE = 0.004
MARKER, TABLE, README, IMAGES = "phantoms.json", "phantoms.csv", "README.txt", "images"
# Below this many images starting processes takes longer than it saves.
WORTH_A_POOL = 200

README_TEXT = """Radiology-like phantoms, drawn by a program.

No patient, no scanner: every image here is procedural (smooth shapes, texture, noise). Not for clinical use, and not
a benchmark: figures measured on these images say nothing about retrieval quality on real ones. They are for trying
cbmir out and for testing it.

{images} images, {broken} of them broken on purpose (column `broken` of phantoms.csv says how), {labels} labels.
Drawn with cbmir.phantoms version {version}, seed {seed}; the same parameters draw the same bytes.
phantoms.csv lists the images: path, split (by patient), labels as MODALITY/region/Finding with | between several.
"""


def draw_collection(
    root: str | os.PathLike,
    *,
    images: int = 1500,
    seed: int = 0,
    broken: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict:
    """Draw a collection into root, or keep it if it is there already; returns its summary.

    broken: how many of the images cannot be read (default 0.4 %); report(done, total) is called as images are done.
    Uses several processes for large collections: call it below `if __name__ == "__main__":` in a script.
    """
    if seed < 0:
        raise UserError(f"seed={seed}: expected 0 or more")
    if images < 1:
        raise UserError(f"images={images}: expected 1 or more")
    broken = round(images * BROKEN_SHARE) if broken is None else broken
    if not 0 <= broken <= images:
        raise UserError(f"broken={broken}: expected 0 to {images}, the number of images")
    root = Path(root)
    parameters = {"drawn_by": "cbmir.phantoms", "version": VERSION, "images": images, "seed": seed, "broken": broken}
    rows = plan_rows(images=images, seed=seed, broken=broken)
    if not _is_finished(root, parameters):
        _prepare(root, parameters)
        draw_rows(root, rows, seed=seed, processes=_processes(len(rows)), report=report)
        text = README_TEXT.format(**parameters, labels=len(LABELS))
        (root / README).write_text(text, encoding="utf-8")
        _write_table(root / TABLE, rows)
    return _summary(root, rows, parameters)


def draw_rows(root: Path, rows: list[Row], *, seed: int, processes: int, report=None) -> None:
    """Write the rows' files below root; what is written does not depend on the number of processes."""
    jobs = [(root, row, index, seed) for index, row in enumerate(rows)]
    if processes == 1:
        _follow(map(_draw_job, jobs), len(jobs), report)
        return
    # spawn: a forked child would inherit the locks of the caller's threads (Ray, BLAS) in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        _follow(pool.map(_draw_job, jobs, chunksize=8), len(jobs), report)


def _draw_job(job: tuple[Path, Row, int, int]) -> None:
    root, row, index, seed = job
    write_row(root, row, index=index, seed=seed)


def _follow(finished, total: int, report: Callable[[int, int], None] | None) -> None:
    for done, _ in enumerate(finished, start=1):
        if report is not None:
            report(done, total)


def _processes(images: int) -> int:
    """One where a pool does not pay or cannot start: few images, a daemon, a main module that is not a file."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    typed_in = main is not None and not os.path.exists(main)
    if images <= WORTH_A_POOL or typed_in or multiprocessing.current_process().daemon:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _is_finished(root: Path, parameters: dict) -> bool:
    """True: the same collection, complete. False: nothing there, or what a killed run left. Else an error."""
    if not root.exists():
        return False
    if not root.is_dir():
        raise UserError(f"{root} is a file; expected a directory to draw into: name another")
    found = _read_marker(root)
    if found is None:
        if {entry.name for entry in root.iterdir()} <= {f"{MARKER}.part"}:
            return False
        raise UserError(f"{root} is not empty and holds no phantom collection; name a new or an empty directory")
    if not (root / TABLE).exists():
        return False
    if found != parameters:
        had, asked = ({k: v for k, v in p.items() if k != "drawn_by"} for p in (found, parameters))
        raise UserError(f"{root} holds another phantom collection ({had}), asked for {asked}; name a new directory")
    return True


def _read_marker(root: Path) -> dict | None:
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("drawn_by") == "cbmir.phantoms" else None


def _prepare(root: Path, parameters: dict) -> None:
    """An empty root but for its marker; only what a drawing run writes is removed."""
    root.mkdir(parents=True, exist_ok=True)
    _publish(root / MARKER, json.dumps(parameters, indent=1) + "\n")
    if (root / IMAGES).exists():
        shutil.rmtree(root / IMAGES)


def _publish(path: Path, text: str) -> None:
    """Write beside, then rename: the file is whole or absent."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="")
    os.replace(part, path)


def _write_table(path: Path, rows: list[Row]) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    os.replace(part, path)


def _summary(root: Path, rows: list[Row], parameters: dict) -> dict:
    return {
        "root": str(root),
        "table": str(root / TABLE),
        **{name: parameters[name] for name in ("images", "seed", "broken", "version")},
        "patients": len({row.patient_id for row in rows}),
        "labels": len({label for row in rows for label in row.labels.split("|")}),
        "splits": dict(Counter(row.split for row in rows)),
        "formats": dict(Counter(row.format for row in rows)),
    }
