"""Figures of samples -> curves against the gallery's size, fitted and extrapolated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.schemas import FITS
from cbmir.select import connect
from cbmir.sql_files import bind, read
from cbmir.statistics.curves import MODELS, Model, choose

CURVE = ("encoder", "index", "sampling", "metric", "relevance", "k", "slice_by", "slice", "average")
BEYOND = (2, 4, 10)  # times the largest sample
MOST_VANISHED = 0.02  # share of the queries that a size may leave out, and still be of the same curve
_SEED = 0  # of the samples that are drawn again

Drawn = dict[tuple[int, int], np.ndarray]  # sample size and seed -> the figure in each resample (d,)


def fits_of(scaling: pa.Table, vanished: pa.Table, draws: pa.Table, *, at: Sequence[int] | None) -> pa.Table:
    """Rows of `scaling`, of `vanished`, and the draws of the figures -> FITS.

    at: sizes that are predicted beside those that were studied; None: BEYOND times the largest.
    """
    connection = connect()
    connection.register("scaling", scaling)
    connection.register("vanished", vanished)
    text = read("tables", "curve_points")
    points = connection.sql(text, params=bind(text, {"most_vanished": MOST_VANISHED})).to_arrow_table().to_pylist()
    drawn = _by_curve(draws)
    rows: list[dict[str, Any]] = []
    for _, mine in groupby(points, lambda point: point["curve"]):
        curve = _Curve(mine := list(mine), drawn.get(tuple(mine[0][name] for name in CURVE), {}))
        rows.extend(curve.rows(at))
    return pa.Table.from_pylist(rows, schema=FITS)


def _by_curve(draws: pa.Table) -> dict[tuple, Drawn]:
    found: dict[tuple, Drawn] = {}
    columns = draws.select([name for name in draws.column_names if name != "drawn"]).to_pylist()
    for row, drawn in zip(columns, draws["drawn"], strict=True):
        key = tuple(row[name] for name in CURVE)
        found.setdefault(key, {})[row["sample_size"], row["seed"]] = drawn.values.to_numpy()
    return found


class _Curve:
    """One figure at all sizes and seeds."""

    def __init__(self, points: list[dict[str, Any]], drawn: Drawn) -> None:
        """points: ordered by size and seed."""
        self.names = {name: points[0][name] for name in CURVE}
        seeds = len({point["seed"] for point in points})
        self.sizes = np.array([point["gallery_size"] for point in points], float).reshape(-1, seeds).mean(axis=1)
        self.values = np.array([point["value"] for point in points]).reshape(-1, seeds)  # (sizes, seeds)
        cells = [drawn.get((point["sample_size"], point["seed"])) for point in points]
        known = all(each is not None for each in cells)
        self.drawn = (
            np.array(cells, float).reshape(-1, seeds, len(cells[0])) if known else None
        )  # (sizes, seeds, draws)
        self._keep_each_sample_once()

    def _keep_each_sample_once(self) -> None:
        """Sizes asked for that come to the same sample, as those within one large patient do, are one point."""
        self.sizes, once = np.unique(self.sizes, return_index=True)
        self.values = self.values[once]
        self.drawn = None if self.drawn is None else self.drawn[once]

    def rows(self, at: Sequence[int] | None) -> Iterator[dict[str, Any]]:
        """FITS: each model at each size that was studied, and beyond."""
        mean = self.values.mean(axis=1)
        chosen = choose(self.sizes, mean)
        largest = self.sizes[-1]
        beyond = (
            [largest * factor for factor in BEYOND] if at is None else [size for size in at if size not in self.sizes]
        )
        asked = np.array([*self.sizes, *beyond], float)
        for model in MODELS:
            if not model.fits(self.sizes):
                continue
            parameters = model.fit(self.sizes, mean[:, None])
            left = model.predict(parameters, self.sizes)[:, 0] - mean
            low, high = self._interval(model, asked)
            for place, (size, value) in enumerate(zip(asked, model.predict(parameters, asked)[:, 0], strict=True)):
                yield self.names | {
                    "model": model.name, "is_chosen": model is chosen, "parameters": parameters[:, 0].tolist(),
                    "rmse": float(np.sqrt((left * left).mean())), "gallery_size": round(size), "value": float(value),
                    "ci_low": low[place], "ci_high": high[place], "is_extrapolation": bool(size > largest),
                    "n_sizes": len(self.sizes), "n_seeds": self.values.shape[1],
                }  # fmt: skip

    def _interval(self, model: Model, asked: np.ndarray) -> tuple[list, list]:
        """The middle 95 % of what the model predicts when patients, and seeds, are drawn with replacement; None where patients were not drawn."""
        if self.drawn is None or self.drawn.shape[2] == 0:
            return [None] * len(asked), [None] * len(asked)
        seeds, draws = self.drawn.shape[1:]
        taken = np.random.default_rng(_SEED).integers(0, seeds, (seeds, draws))
        again = np.take_along_axis(self.drawn, taken[None], axis=1).mean(axis=1)  # (sizes, draws)
        again = again[:, ~np.isnan(again).any(axis=0)]
        if 2 * again.shape[1] < draws:
            return [None] * len(asked), [None] * len(asked)
        predicted = model.predict(model.fit(self.sizes, again), asked)
        low, high = np.quantile(predicted, [0.025, 0.975], axis=1)
        return low.tolist(), high.tolist()
