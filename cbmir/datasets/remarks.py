"""What is odd in a source, named with file and row and counted, while everything else goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.schemas import REMARKS

FILE, ROW = "_file", "_row"  # a source's columns for where a row stands; `manifest.build` uses and drops them

KINDS: dict[str, str] = {
    "missing_image": "rows whose image is not there",
    "unlisted_image": "images that no label file lists, left out",
    "unlabeled_image": "images without a row of labels, kept with none",
    "unknown_label": "labels that the source does not define, kept as they are",
    "unreadable_row": "rows that cannot be read, left out",
    "unreadable_file": "files that cannot be read, left out",
    "unknown_split": "rows whose split is not train, val or test: split = 'unknown', neither gallery nor query by default",
    "duplicate_id": "rows whose image id stands before them already, left out",
    "two_labels": "images that are listed with two labels",
    "missing_label_file": "label files that are not there",
    "odd_value": "values that have no meaning here, left out",
    "other_file": "files of other kinds, passed over",
    "second_link": "links to directories that are listed already, not followed again",
    "no_pixels": "DICOM files without an image, left out",
    "same_instance": "DICOM files with an instance UID that stands before them already, kept",
    "mixed_series": "DICOM series of several orientations or sizes, taken apart",
    "gap_in_series": "volumes of DICOM slices in which slices seem to be missing, kept",
    "same_position": "volumes with several DICOM slices at one position",
    "not_as_published": "files that differ from what was published under their name",
    "vector_without_row": "vectors that belong to no row of the manifest, left out",
    "second_vector": "vectors for a row that has one already, left out",
    "left_out": "rows left out as asked",
}


class Remarks:
    """A growing list of remarks; one entry a row of a file, thousands at a time."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []

    def add(self, check: str, detail: str, *, file: str | None = None, row: int | None = None) -> None:
        """One remark; `detail` is one line, `row` the row of `file`, its header being row 1."""
        self.add_rows(check, [" ".join(detail.split())], files=[file], rows=[row])

    def add_rows(
        self, check: str, details: Iterable, *, files: Iterable | None = None, rows: Iterable | None = None
    ) -> None:
        """Many remarks of one kind: columns of equal length, as lists or Arrow arrays."""
        if check not in KINDS:
            raise ValueError(f"no kind of remark '{check}'; expected one of {', '.join(KINDS)}")
        detail = _column(details, pa.string())
        count = len(detail)
        columns = {
            "remark": pa.array([check] * count, pa.string()),
            "file": pa.nulls(count, pa.string()) if files is None else _column(files, pa.string()),
            "row": pa.nulls(count, pa.int64()) if rows is None else _column(rows, pa.int64()),
            "detail": detail,
        }
        if count:
            self._tables.append(pa.table([columns[name] for name in REMARKS.names], schema=REMARKS))

    def table(self) -> pa.Table:
        """All of them, in the order in which they came."""
        return pa.concat_tables([REMARKS.empty_table(), *self._tables]).combine_chunks()

    def summary(self) -> list[dict]:
        """One entry a kind, as `summary` has it."""
        return summary(self.table())


def summary(table: pa.Table) -> list[dict]:
    """Remarks -> one entry a kind: remark, count and the first of it as 'FILE row ROW: detail'."""
    found = []
    for kind in pc.unique(table["remark"]).to_pylist():
        of_kind = table.filter(pc.equal(table["remark"], kind))
        first = of_kind.slice(0, 1).to_pylist()[0]
        place = os.path.basename(first["file"]) if first["file"] else ""
        line = f" row {first['row']}" if first["row"] is not None else ""
        where = f"{place}{line}: " if place or line else ""
        found.append({"remark": kind, "count": of_kind.num_rows, "first": f"{where}{first['detail']}"})
    return found


def _column(values: Iterable, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def remark_lines(run: dict, address: str) -> list[str]:
    """A manifest's run.json -> its remarks for people, a line a kind."""
    said = [
        f"{r['count']:,} x {r['remark']} ({KINDS[r['remark']]}), first: {r['first']}" for r in run.get("remarks", [])
    ]
    if said:
        said.append(f'all of them: cbmir sql --study {address} "SELECT * FROM remarks"')
    return said
