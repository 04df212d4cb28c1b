"""What a person is told of a study of index sizes: a table of sizes, what has vanished, and what larger galleries let expect."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import duckdb

from cbmir.aligned import aligned, figure_name, number, with_interval
from cbmir.select import attach, connect
from cbmir.sql_files import read
from cbmir.store import Study

_DATASETS = ("scaling", "scaling_costs", "vanished", "fits")


def lines(study: Study, encoders: list[str], metric: str) -> Iterator[str]:
    """Lines for the terminal; metric: that of the table."""
    connection = connect()
    for dataset in _DATASETS:
        attach(connection, dataset, study, study.files(dataset))
    yield from _sizes(connection, encoders, metric)
    yield from _vanished(connection, encoders)
    yield from _expected(connection, encoders, metric)
    yield f'every figure: cbmir sql --study {study.address} "FROM scaling"; costs: scaling_costs; fits: fits; the report: cbmir report --study {study.address}'


def _sizes(connection: duckdb.DuckDBPyConnection, encoders: list[str], metric: str) -> Iterator[str]:
    """A table for each k that is the least of some encoder: as a rule one."""
    rows = connection.execute(read("report", "scaling_lines"), {"encoders": encoders, "metric": metric}).fetchall()
    for k, mine in groupby(rows, lambda row: row[0]):
        name = figure_name(metric, k)
        heads = ["", "sampling", "images", f"{name} micro", f"{name} macro", "ANN recall", "build s", "ms/query"]
        yield from aligned([heads, *map(_cells, mine)], left=(0, 1)).splitlines()


def _cells(row: tuple) -> list[str]:
    _, encoder, index, sampling, size, micro, micro_sd, macro, macro_sd, recall, build, search = row
    built = "" if build is None else number(build, 1)
    spread = [_spread(micro, micro_sd), _spread(macro, macro_sd)]
    return [f"{encoder} {index}", sampling, number(size, 0), *spread, number(recall, 4), built, number(search)]


def _spread(mean: float | None, deviation: float | None) -> str:
    """'0.5432 ± 0.0012'; without ± for one seed."""
    return number(mean, 4) + ("" if deviation is None else f" ± {number(deviation, 4)}")


def _vanished(connection: duckdb.DuckDBPyConnection, encoders: list[str]) -> Iterator[str]:
    for encoder, sampling, size, labels, queries, first in connection.execute(
        read("report", "vanished_lines"), {"encoders": encoders}
    ).fetchall():
        count = "all queries" if queries is None else f"up to {queries:,} {'query' if queries == 1 else 'queries'}"
        yield (
            f"{encoder}, {sampling} samples of {size:,}: up to {labels:,} {'label has' if labels == 1 else 'labels have'} no image in the sample, {first!r} for one; {count}, to which nothing in it "
            "is relevant, are left out of its figures and counted in n_vanished, see: FROM vanished"
        )


def _expected(connection: duckdb.DuckDBPyConnection, encoders: list[str], metric: str) -> Iterator[str]:
    for encoder, index, sampling, k, size, value, low, high, model, n_sizes in connection.execute(
        read("report", "fit_lines"), {"encoders": encoders, "metric": metric}
    ).fetchall():
        yield (
            f"{encoder} {index}, {sampling}: {figure_name(metric, k)} = {with_interval(value, low, high)} expected at {size:,} images: extrapolated by the {model} curve of {n_sizes} sizes"
        )
