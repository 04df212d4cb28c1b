"""Published figures that come with cbmir, and where they stand.

`published.csv` has them as printed, `encoders.csv` and `metrics.csv` say what each is called here, `papers.toml` cites.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa

from cbmir.schemas import PUBLISHED


@dataclass(frozen=True)
class Paper:
    """One paper, cited as its own repository asks; None where that says nothing."""

    name: str
    authors: str
    title: str
    year: int
    repository: str
    taken_from: str  # where in the paper its figures stand
    scale: int  # what a printed figure is divided by to be a share
    bibtex: str
    arxiv: str | None = None
    files: str | None = None

    @property
    def citation(self) -> str:
        """One line."""
        where = f"arXiv {self.arxiv}" if self.arxiv else self.repository
        return f"{self.authors}: {self.title}. {where}, {self.year}"


@cache
def papers() -> dict[str, Paper]:
    """Name, as in `published.paper` -> its citation."""
    found = tomllib.loads(_text("papers.toml"))
    return {name: Paper(name=name, **{**entry, "bibtex": entry["bibtex"].strip()}) for name, entry in found.items()}


@cache
def published() -> pa.Table:
    """Every published figure, in the papers' own order -> PUBLISHED."""
    encoders = {(row["paper"], row["encoder"]): row["cbmir_encoder"] for row in _rows("encoders.csv")}
    metrics = {(row["paper"], row["metric"]): row for row in _rows("metrics.csv")}
    rows = [
        _figure(row, encoders.get((row["paper"], row["encoder"])), metrics[row["paper"], row["metric"]])
        for row in _rows("published.csv")
    ]
    return pa.Table.from_pylist(rows, schema=PUBLISHED)


@cache
def weights_notes(paper: str) -> dict[str, str]:
    """Encoders of a paper, as printed, whose weights here are not the published ones -> how they differ."""
    return {row["encoder"]: row["note"] for row in _rows("encoders.csv") if row["paper"] == paper and row["note"]}


def _figure(row: dict[str, Any], cbmir_encoder: str | None, metric: dict[str, Any]) -> dict[str, Any]:
    """A row as printed -> the same by cbmir's names; `meant` stands where the printed figure is certainly another."""
    figure = row["meant"] or row["printed"]
    return {
        "paper": row["paper"],
        "dataset": row["dataset"],
        "image_size": row["image_size"] and int(row["image_size"]),
        "encoder": row["encoder"],
        "cbmir_encoder": cbmir_encoder,
        "printed_metric": row["metric"],
        "metric": metric["cbmir_metric"],
        "k": int(metric["k"]),
        "average": metric["average"],
        "value": figure and float(Decimal(figure) / papers()[row["paper"]].scale),
        "printed": row["printed"],
        "note": row["note"],
    }


def _rows(name: str) -> list[dict[str, str | None]]:
    """A file's rows; a blank cell is None."""
    return [{key: value or None for key, value in row.items()} for row in csv.DictReader(_text(name).splitlines())]


def _text(name: str) -> str:
    return (resources.files("cbmir.references") / name).read_text(encoding="utf-8")
