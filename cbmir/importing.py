"""Stage: published vectors -> an encoder's embeddings, with an account of rows without a vector and vectors without a row.

Every manifest row ends as one embedding or one failure (stage 'import'), as after `embed`. The dataset appears whole or not at all, so a killed
import is simply made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets.remarks import Remarks
from cbmir.errors import TooManyFailures, UserError
from cbmir.progress import Progress
from cbmir.published import files as published
from cbmir.published.batch import Batch
from cbmir.published.rows import Rows
from cbmir.schemas import FAILURES, embeddings
from cbmir.store import Publication, Study, changed_parameter, path_name, run_record

_CANDIDATES = ("filepath", "image_id", "uri")  # columns whose values published keys may be, the likeliest first


@dataclass(frozen=True)
class ImportOptions:
    """How files' keys find rows of the manifest, and how vectors are stored."""

    match: str | None = None  # column of the manifest; None: the one that fits the first keys best
    key_column: str | None = None
    vector_column: str | None = None
    dtype: str = "float32"
    max_failures: float = 0.01
    overwrite: bool = False


def import_embeddings(
    study: Study, encoder: str, arguments: list[str], options: ImportOptions, *, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], bool]:
    """Take the vectors of published files as embeddings of `encoder` -> (run.json, whether they were imported now).

    Raises UserError for misuse before anything is written, and TooManyFailures after everything was, if more than `max_failures` of
    the manifest's rows have no vector.
    """
    if not encoder.strip() or encoder != encoder.strip():
        raise UserError(f"--encoder {encoder!r}; expected a name")
    manifest = study.require("manifest")
    files = published.find(arguments)
    target = ("embeddings", f"encoder={path_name(encoder)}")
    draft = _draft(study, encoder, files, options, manifest)
    before = study.run_of(*target)
    same = before and before["inputs"].get("files") == draft["inputs"]["files"] and not changed_parameter(before, draft)
    if same and before["inputs"]["manifest"] == manifest["fingerprint"] and not options.overwrite:
        say(f"{encoder}: already imported, {before['rows']:,} vectors")
        return before, False
    if (before or study.exists(*target, "started.json")) and not same and not options.overwrite:
        how = "imported from other files or otherwise" if before and "imported" in before else "embedded here"
        raise UserError(
            f"the study has embeddings of {encoder} that were {how}; use another --encoder name, or --overwrite to replace them"
        )
    run = _import(study, encoder, files, options, draft, say)
    _refuse_many_failures(encoder, run, options.max_failures)
    return run, True


def _draft(study: Study, encoder: str, files: list[str], options: ImportOptions, manifest: dict) -> dict[str, Any]:
    sums = [(os.path.basename(file), digest) for file, digest in zip(files, _digests(files), strict=True)]
    parameters = {
        "encoder": encoder, "match": options.match, "key_column": options.key_column, "vector_column": options.vector_column, "dtype": options.dtype,
    }  # fmt: skip
    inputs = {"manifest": manifest["fingerprint"], "files": [f"{name} {digest}" for name, digest in sums]}
    return run_record("import", parameters=parameters, inputs=inputs, rows=0, imported=[name for name, _ in sums])


def _digests(files: list[str]) -> Iterator[str]:
    """SHA-256 of each file: published vectors are known by their content, not by a name or date."""
    total = sum(os.path.getsize(file) for file in files)
    done = 0
    with Progress("reading checksums", total >> 20, unit="MiB") as progress:
        for file in files:
            digest = hashlib.sha256()
            with open(file, "rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
                    done += len(block)
                    progress.update(done >> 20)
            yield digest.hexdigest()


def _import(study: Study, encoder: str, files: list[str], options: ImportOptions, draft: dict, say) -> dict[str, Any]:
    remarks = Remarks()
    rows = _rows(study, files, options)
    target = f"encoder={path_name(encoder)}"
    failures: dict[int, str] = {}
    with study.publishing("embeddings", target) as out:
        dim = _write_vectors(out, files, options, rows, remarks, failures)
        lost = np.flatnonzero(~rows.taken)
        names = ", ".join(draft["imported"])
        with study.publishing("failures", target) as bad:
            if len(lost):
                missing = f"no vector under this row's {rows.column} in {names}"
                bad.write_table(_failures(rows, lost, failures, missing), "import.parquet", "failures")
            bad.run = run_record("import", parameters=draft["parameters"], inputs=draft["inputs"], rows=len(lost))
        keys = np.sort(rows.keys[rows.taken])
        out.run = draft | {
            "inputs": draft["inputs"] | {"embedded": hashlib.sha256(keys.tobytes()).hexdigest()},
            "rows": len(keys), "failed": len(lost), "dim": dim, "dtype": options.dtype, "precision": "as published", "random_weights": None,
            "weights_sha256": "", "spec": {"name": encoder, "source": f"imported from {names}"}, "matched_by": rows.column,
        }  # fmt: skip
        out.write_json(
            {"imported": draft["imported"], "dtype": options.dtype, "precision": "as published"}, "started.json"
        )
    _publish_remarks(study, encoder, remarks, draft)
    for line in _account(encoder, out.run, remarks, rows, lost, study.address):
        say(line)
    return out.run


def _rows(study: Study, files: list[str], options: ImportOptions) -> Rows:
    """The manifest by the column that the files' keys are; asked of the first vectors unless it was named."""
    first = next(published.read(files[0], None, key_column=options.key_column, vector_column=options.vector_column))
    sample = first.keys if len(first.keys) else [key for key, _ in first.bad]
    if len(sample) == 0:
        raise UserError(f"{files[0]} holds no vector; expected one an image")
    columns = study.dataset("manifest").schema.names
    if isinstance(sample, np.ndarray):
        candidates = ["image_key"]
    elif options.match:
        if options.match not in columns:
            raise UserError(f"--match {options.match}: the manifest has no such column; columns: {', '.join(columns)}")
        candidates = [options.match]
    else:
        candidates = [name for name in _CANDIDATES if name in columns]
    found = [(rows, len(np.unique(rows.find(sample)[0]))) for rows in (Rows(study, name) for name in candidates)]
    rows, matched = max(found, key=lambda pair: pair[1])
    if matched == 0 and len(files) == 1:
        example = rows.table[rows.column][0].as_py()
        raise UserError(
            f"none of the first {len(sample):,} keys of {files[0]} is a {' or '.join(candidates)} of the manifest: found '{sample[0]}', "
            f"expected e.g. '{example}'; choose the column with --match"
        )
    return rows


def _write_vectors(
    out: Publication, files: list[str], options: ImportOptions, rows: Rows, remarks: Remarks, failures: dict[int, str]
) -> int:
    """Write every vector that has a row -> dim. What has none, or a row that has one already, is remarked."""
    dim: int | None = None
    with Progress("import", len(rows.keys), unit="rows") as progress:
        for number, file in enumerate(files):
            batches = published.read(file, dim, key_column=options.key_column, vector_column=options.vector_column)
            for part, batch in enumerate(batches):
                dim = dim or (batch.vectors.shape[1] if len(batch.vectors) else None)
                _note_bad(batch, file, rows, remarks, failures)
                at, row = _fresh(batch, file, rows, remarks)
                if len(row):
                    _write_part(
                        out,
                        rows.keys[row],
                        batch.vectors[at],
                        options.dtype,
                        f"{number:04d}-{part:06d}.parquet",
                        row,
                        rows,
                        failures,
                    )
                progress.update(int(rows.taken.sum()))
    if dim is None or not rows.taken.any():
        raise UserError(
            f"no vector of {', '.join(files)} belongs to a row of the manifest by its {rows.column}; choose the column with --match"
        )
    return dim


def _note_bad(batch: Batch, file: str, rows: Rows, remarks: Remarks, failures: dict[int, str]) -> None:
    for key, reason in batch.bad:
        _, found = rows.find(np.array([key], np.int64) if isinstance(key, int | np.integer) else [key])
        for row in found:
            failures.setdefault(int(row), f"its vector in {os.path.basename(file)} is {reason}")
        if len(found) == 0:
            remarks.add("vector_without_row", f"{key}: {reason}", file=file)


def _fresh(batch: Batch, file: str, rows: Rows, remarks: Remarks) -> tuple[np.ndarray, np.ndarray]:
    """(positions in the batch, rows) of vectors whose row has none yet; the others are remarked."""
    at, row = rows.find(batch.keys)
    strangers = np.setdiff1d(np.arange(len(batch.keys)), at)
    remarks.add_rows("vector_without_row", [str(batch.keys[i]) for i in strangers], files=[file] * len(strangers))
    _, first = np.unique(row, return_index=True)
    new = np.zeros(len(row), bool)
    new[first] = True
    new &= ~rows.taken[row]
    again = [str(batch.keys[i]) for i in at[~new]]
    remarks.add_rows("second_vector", again, files=[file] * len(again))
    rows.taken[row[new]] = True
    return at[new], row[new]


def _write_part(
    out: Publication,
    keys: np.ndarray,
    vectors: np.ndarray,
    dtype: str,
    name: str,
    row: np.ndarray,
    rows: Rows,
    failures: dict[int, str],
) -> None:
    with np.errstate(over="ignore"):
        stored = vectors.astype(dtype)
    large = ~np.isfinite(stored).all(axis=1)
    for place in row[large]:
        failures[int(place)] = f"its vector is too large for {dtype}"
    rows.taken[row[large]] = False
    contract = embeddings(vectors.shape[1], dtype=dtype)
    column = pa.FixedSizeListArray.from_arrays(pa.array(stored[~large].ravel()), type=contract.field("embedding").type)
    out.write_table(
        pa.table([pa.array(keys[~large], pa.int64()), column], schema=contract), name, "embeddings", contract
    )


def _failures(rows: Rows, lost: np.ndarray, failures: dict[int, str], missing: str) -> pa.Table:
    errors = [failures.get(int(row), missing) for row in lost]
    uris = rows.table["uri"].take(pa.array(lost)).combine_chunks()
    return pa.table([rows.keys[lost], uris, pa.array(["import"] * len(lost)), errors], schema=FAILURES)


def _publish_remarks(study: Study, encoder: str, remarks: Remarks, draft: dict) -> None:
    with study.publishing("remarks", path_name(f"import of {encoder}")) as out:
        out.write_table(remarks.table(), "remarks.parquet", "remarks")
        out.run = run_record(
            "remarks", parameters=draft["parameters"], inputs=draft["inputs"], rows=len(remarks.table())
        )


def _account(encoder: str, run: dict, remarks: Remarks, rows: Rows, lost: np.ndarray, address: str) -> list[str]:
    said = [
        f"{encoder}: {run['rows']:,} rows have a vector of {run['dim']} numbers (found by {rows.column}), {len(lost):,} have none"
    ]
    if len(lost):
        example = rows.table[rows.column][int(lost[0])].as_py()
        said[0] += f", first {example}: see failures"
    for kind, what in (
        ("vector_without_row", "vectors belong to no row of the manifest"),
        ("second_vector", "vectors for a row that had one: the first was taken"),
    ):
        table = remarks.table()
        of_kind = table.filter(pc.equal(table["remark"], kind))
        if len(of_kind):
            said.append(f"remark: {len(of_kind):,} {what}, first {of_kind['detail'][0].as_py()}")
    if len(said) > 1:
        said.append(f'remark: all of them: cbmir sql --study {address} "SELECT * FROM remarks"')
    return said


def _refuse_many_failures(encoder: str, run: dict, allowed: float) -> None:
    total = run["rows"] + run["failed"]
    share = run["failed"] / max(1, total)
    if share > allowed:
        raise TooManyFailures(
            f"{encoder}: {run['failed']:,} of {total:,} rows have no vector ({share:.1%}), more than --max-failures {allowed:.1%}; the others "
            "are imported; if only a part of the manifest was published, allow more"
        )
