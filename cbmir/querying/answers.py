"""What an image found, and the forms in which people and programs take it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cbmir.errors import UserError
from cbmir.querying.votes import Vote, in_words

NEIGHBOR = ("rank", "distance", "image_id", "labels", "modality", "region", "split", "uri")
TABLE = pa.schema(
    [
        ("query", pa.string()),
        ("rank", pa.int32()),
        ("distance", pa.float32()),
        ("image_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("modality", pa.string()),
        ("region", pa.string()),
        ("split", pa.string()),
        ("uri", pa.string()),
    ]
)


@dataclass(frozen=True)
class Answer:
    """The neighbors of one image or volume, nearest first, and their vote; or why it could not be asked with.

    neighbors: a dict each, with what NEIGHBOR names, and `path`: filepath of the manifest where it has that column, else image_id.
    left_out: why some slices of a volume are not asked with, one each.
    """

    name: str  # of the image, as it was given
    uri: str | None = None
    error: str | None = None
    neighbors: list[dict[str, Any]] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As `report.query_page` takes it."""
        return {"image": self.name} | {k: v for k, v in asdict(self).items() if k != "name"}


def text(
    answer: Answer, beneath: Callable[[dict[str, Any]], list[str]] = lambda _: [], after: Iterable[str] = ()
) -> str:
    """Lines for a terminal: the query, its neighbors (rank, distance, id, labels) and their vote.

    beneath: what more is said of a neighbor. after: lines before the vote.
    """
    if answer.error:
        return f"{answer.name}  cannot be read ({answer.error})"
    width = max((len(n["image_id"]) for n in answer.neighbors), default=0)
    lines = [answer.name]
    for n in answer.neighbors:
        labels = ", ".join(n["labels"]) or "-"
        lines += [f"  {n['rank']:>3}  {n['distance']:.4f}  {n['image_id']:<{width}}  {labels}", *beneath(n)]
    return "\n".join([*lines, *after, f"  vote  {in_words(answer.votes)}"])


def columns(answers: Iterable[Answer]) -> dict[str, list]:
    """One value a neighbor: query, and what NEIGHBOR names. An image that could not be read has no neighbor and no row."""
    found: dict[str, list] = {name: [] for name in ("query", *NEIGHBOR)}
    for answer in answers:
        for neighbor in answer.neighbors:
            found["query"].append(answer.name)
            for name in NEIGHBOR:
                found[name].append(neighbor[name])
    return found


def save_table(answers: list[Answer], path: str) -> None:
    """One row a neighbor, as `columns` has them; labels as a list in Parquet, as a|b in CSV."""
    save_columns(columns(answers), TABLE, path)


def save_columns(found: dict[str, list], schema: pa.Schema, path: str) -> None:
    """FILE.parquet, or FILE.csv with labels as a|b and numbers in as many digits as a float32 has."""
    if path.endswith(".parquet"):
        _whole(path, lambda file: pq.write_table(pa.table(found, schema=schema), file), binary=True)
        return
    for name in schema.names:
        if pa.types.is_list(schema.field(name).type):
            found[name] = ["|".join(values) for values in found[name]]
        elif pa.types.is_floating(schema.field(name).type):
            found[name] = [f"{value:.9g}" for value in found[name]]
    _whole(path, lambda file: _rows(file, list(found), zip(*found.values(), strict=True)))


def save_knn(answers: list[Answer], path: str, *, k: int) -> None:
    """The table that the published tool of Denner et al. 2024 writes as knn.csv: query, 1, 2, ... k, a row an image.

    Cells are the neighbors' paths: `filepath` of the published split files where the manifest was made of them, else image_id. A
    neighbor that there is not, and all of an image that could not be read, is an empty cell.
    """
    rows = ([a.name, *(n["path"] for n in a.neighbors), *[""] * (k - len(a.neighbors))] for a in answers)
    _whole(path, lambda file: _rows(file, ["query", *range(1, k + 1)], rows))


def refuse_bad_outputs(*, table: str | None, files: Iterable[str | None]) -> None:
    """UserError for places that cannot be written, before anything is computed."""
    if table and not table.endswith((".csv", ".parquet")):
        raise UserError(f"--table {table}; expected a name that ends in .csv or .parquet")
    for file in filter(None, (table, *files)):
        if not os.path.isdir(os.path.dirname(file) or "."):
            raise UserError(f"no directory {os.path.dirname(file)} for {file}; expected one that exists; make it first")
        if os.path.isdir(file):
            raise UserError(f"{file} is a directory; expected the name of a file to write")


def save_text(content: str, path: str) -> None:
    _whole(path, lambda file: file.write(content))


def _rows(file, header: list, rows: Iterable) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _whole(path: str, write, *, binary: bool = False) -> None:
    """Written beside and renamed, so that no half of a file stands under its name."""
    beside = f"{path}.{os.getpid()}.part"
    how = {"mode": "wb"} if binary else {"mode": "w", "encoding": "utf-8", "newline": ""}
    try:
        with open(beside, **how) as file:
            write(file)
        os.replace(beside, path)
    finally:
        if os.path.exists(beside):
            os.remove(beside)
