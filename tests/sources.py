"""What the tests of sources share: a manifest with its remarks, and a whole run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.manifest import read_source
from cbmir.datasets.remarks import Remarks
from cbmir.store import Study

SALT = b"0" * 32


def manifest(source: str, *roots, **options) -> tuple[pa.Table, list[tuple]]:
    """A source's manifest, and its remarks as (kind, file name, row, detail)."""
    remarks = Remarks()
    table, _ = read_source(source, [str(root) for root in roots], Options(**options), remarks, salt=lambda: SALT)
    said = [
        (r["remark"], r["file"] and Path(r["file"]).name, r["row"], r["detail"]) for r in remarks.table().to_pylist()
    ]
    return table, said


def rows(table: pa.Table, *columns: str) -> list[tuple]:
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def touch(root: Path, *names: str) -> Path:
    """Empty files below a directory -> the directory."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def run_whole(source: str, *roots, study: Path, flags: tuple[str, ...] = (), code: int = 0) -> Study:
    """`cbmir run SOURCE ... --encoder pixels32` -> its study, with one embedding or failure for every row."""
    everything = ("--gallery", "true", "--queries", "true", "--allow-overlap")
    given = ["run", source, *map(str, roots), "--study", str(study), "--encoder", "pixels32", "--index", "exact"]
    assert main([*given, *everything, *flags]) == code
    done = Study(str(study))
    images = done.require("manifest")["rows"]
    assert done.require("embeddings", "encoder=pixels32")["rows"] + failures(done).num_rows == images
    assert done.exists("report", "report.html") or done.exists("report.html")
    return done


def failures(study: Study) -> pa.Table:
    files = study.files("failures", "encoder=pixels32")
    return study.dataset("failures", "encoder=pixels32").to_table() if files else pa.table({"uri": [], "error": []})
