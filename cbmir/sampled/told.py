"""What a person is told of a study of index sizes: a table of sizes, what has vanished, and what larger galleries let expect."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from cbmir.select import attach, connect
from cbmir.sql_files import read
from cbmir.store import Study

_DATASETS = ("scaling", "scaling_costs", "vanished", "fits")


def lines(study: Study, encoders: list[str]) -> Iterator[str]:
    """Lines for the terminal."""
    connection = connect()
    for dataset in _DATASETS:
        attach(connection, dataset, study, study.files(dataset))
    yield from _sizes(connection, encoders)
    yield from _vanished(connection, encoders)
    yield from _expected(connection, encoders)
    yield f'every figure: cbmir sql --study {study.address} "FROM scaling"; costs: scaling_costs; fits: fits; the report: cbmir report --study {study.address}'


def _sizes(connection: duckdb.DuckDBPyConnection, encoders: list[str]) -> Iterator[str]:
    rows = connection.execute(read("report", "scaling_lines"), {"encoders": encoders}).fetchall()
    if not rows:
        return
    k = rows[0][0]
    width = max(len(f"{row[1]} {row[2]}") for row in rows)
    yield f"{'':<{width}} {'sampling':<10} {'images':>11} {f'P@{k} micro':>16} {f'P@{k} macro':>16} {'ANN recall':>11} {'build s':>9} {'ms/query':>9}"
    for _, encoder, index, sampling, size, micro, micro_sd, macro, macro_sd, recall, build, search in rows:
        built = f"{build:>9,.1f}" if build is not None else f"{'':>9}"
        yield (
            f"{f'{encoder} {index}':<{width}} {sampling:<10} {size:>11,.0f} {_spread(micro, micro_sd)} {_spread(macro, macro_sd)} "
            f"{recall:>11.4f} {built} {search:>9.3f}"
        )


def _spread(mean: float, deviation: float | None) -> str:
    """'0.5432 ± 0.0012'; without ± for one seed."""
    text = f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")
    return f"{text:>16}"


def _vanished(connection: duckdb.DuckDBPyConnection, encoders: list[str]) -> Iterator[str]:
    for encoder, sampling, size, labels, queries, first in connection.execute(
        read("report", "vanished_lines"), {"encoders": encoders}
    ).fetchall():
        count = "all queries" if queries is None else f"up to {queries:,} {'query' if queries == 1 else 'queries'}"
        yield (
            f"{encoder}, {sampling} samples of {size:,}: up to {labels:,} labels have no image in the sample, {first!r} for one; {count}, to which nothing in it "
            "is relevant, are left out of its figures and counted in n_vanished, see: FROM vanished"
        )


def _expected(connection: duckdb.DuckDBPyConnection, encoders: list[str]) -> Iterator[str]:
    for encoder, index, sampling, k, size, value, low, high, model, n_sizes in connection.execute(
        read("report", "fit_lines"), {"encoders": encoders}
    ).fetchall():
        interval = f" ({low:.3f} to {high:.3f})" if low is not None else ""
        yield (
            f"{encoder} {index}, {sampling}: P@{k} = {value:.3f}{interval} expected at {size:,} images: extrapolated by the {model} curve of {n_sizes} sizes"
        )
