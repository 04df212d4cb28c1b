"""The commands of studies: flags -> one call, and what a person is told of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cbmir.store import Study


def _index_size(a: argparse.Namespace) -> None:
    from cbmir.flags.typed import index_size_options
    from cbmir.scaling import study_index_size

    study_index_size(Study(a.study), a.encoder, index_size_options(a), asked=a.words)
    if a.paper:
        from cbmir.paper import write_paper

        write_paper(Study(a.study))


def _encoders(a: argparse.Namespace) -> None:
    from cbmir.flags.typed import encoders_options
    from cbmir.leaderboard import study_encoders, write_csv

    rows = study_encoders(Study(a.study), encoders_options(a))
    if a.csv:
        write_csv(rows, a.csv)
    if a.paper:
        from cbmir.paper import write_paper

        write_paper(Study(a.study), encoders=tuple(row["encoder"] for row in rows), relevance=a.relevance, k=a.k)


def _search_effort(a: argparse.Namespace) -> None:
    from cbmir.effort import study_search_effort
    from cbmir.flags.typed import effort_options

    study_search_effort(Study(a.study), a.encoder, effort_options(a), asked=a.words)


def _image_size(a: argparse.Namespace) -> None:
    from cbmir.flags.typed import image_size_options
    from cbmir.image_sizes import study_image_size

    study_image_size(Study(a.study), a.encoder, image_size_options(a), asked=a.words)


def run_as_published(a: argparse.Namespace) -> None:
    """`cbmir run --as-published`: a paper's protocol, and its table."""
    from cbmir.as_published.mahbod2024 import csv_text
    from cbmir.flags.published import published_run_options
    from cbmir.published_run import run_mahbod2024

    lines = run_mahbod2024(Study(a.study), a.encoder, published_run_options(a))
    if a.csv:
        with open(a.csv, "w", newline="", encoding="utf-8") as stream:
            stream.write(csv_text(lines))


STUDIES: dict[str, Callable[[argparse.Namespace], None]] = {
    "study index-size": _index_size,
    "study encoders": _encoders,
    "study image-size": _image_size,
    "study search-effort": _search_effort,
}
