"""Figures and neighbors of a study as pandas DataFrames; only what is asked for is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from cbmir.errors import UserError, nearest
from cbmir.references import published
from cbmir.schemas import CONTRACTS, PUBLISHED
from cbmir.select import attach, connect, keys_where
from cbmir.stages import MADE_BY
from cbmir.store import Study, path_name

if TYPE_CHECKING:
    import pandas as pd


def figures(study: Study, *parts: str, **wanted: Any) -> pd.DataFrame:
    """Rows of the dataset `parts` whose columns have the values `wanted`: one, or a list of them; None: all.

    UserError for a value that its column has nowhere; values that are there, but never together, give no rows.
    """
    study.require(*parts)
    connection = connect()
    attach(connection, "figures", study, study.files(*parts))
    return _nullable(_filtered(connection, parts[0], wanted).df(), CONTRACTS[parts[0]])


def published_figures(**wanted: Any) -> pd.DataFrame:
    """The published figures that come with cbmir, in the papers' order, filtered as `figures` are."""
    connection = connect()
    connection.register("figures", published())
    return _nullable(_filtered(connection, "published", wanted).df(), PUBLISHED)


def _filtered(connection: duckdb.DuckDBPyConnection, dataset: str, wanted: dict[str, Any]) -> duckdb.DuckDBPyRelation:
    """Rows of the view `figures` whose columns have the values `wanted`."""
    relation = connection.table("figures")
    for column, values in wanted.items():
        if values is not None:
            asked = _listed(values)
            _refuse_unknown(connection, dataset, column, asked)
            relation = relation.filter(
                duckdb.ColumnExpression(column).isin(*(duckdb.ConstantExpression(value) for value in asked))
            )
    return relation


def _listed(values: Any) -> list:
    return [values] if isinstance(values, (str, int)) else list(values)


def _refuse_unknown(connection: duckdb.DuckDBPyConnection, dataset: str, column: str, asked: list) -> None:
    found = connection.table("figures").project(f'"{column}"').distinct().order(f'"{column}"').fetchall()
    there = [row[0] for row in found if row[0] is not None]
    for value in asked:
        if value not in there:
            near = nearest(value, there) if isinstance(value, str) else ""
            some = ", ".join(map(repr, there[:20])) + (", ..." if len(there) > 20 else "")
            raise UserError(f"no {column} {value!r} in {dataset}; {near or 'there: ' + (some or 'none')}")


def _nullable(frame: pd.DataFrame, contract: pa.Schema) -> pd.DataFrame:
    """Whole numbers that may be missing as pandas' nullable integers, also where none is missing."""
    kinds = {f.name: str(f.type).capitalize() for f in contract if f.nullable and pat.is_integer(f.type)}
    return frame.astype({name: kind for name, kind in kinds.items() if name in frame})


def turned(frame: pd.DataFrame, a: str) -> pd.DataFrame:
    """Comparisons with `a` on the left: rows that have it on the right alone are exchanged, and their differences change sign."""
    there = (frame["encoder_b"] == a) & (frame["encoder_a"] != a)
    left, right = ["encoder_a", "index_a", "value_a"], ["encoder_b", "index_b", "value_b"]
    exchanged = frame.rename(columns=dict(zip([*left, *right], [*right, *left], strict=True)))
    exchanged["difference"] = -frame["difference"]
    exchanged["ci_low"], exchanged["ci_high"] = -frame["ci_high"], -frame["ci_low"]
    return frame.where(~there, exchanged[frame.columns], axis=0).astype(frame.dtypes)


def neighbors_frame(
    study: Study, encoder: str, index: str, *, k: int | None, queries: str | Iterable[str] | None
) -> pd.DataFrame:
    """(query, rank, neighbor, distance, query_labels, neighbor_labels, query_key, neighbor_key), by query and rank.

    Lists of labels are held once an image, and rows point to them.
    """
    import pandas as pd

    parts = ("neighbors", *search_of(study, "neighbors", encoder, index))
    study.require(*parts)
    images = study.dataset("manifest").to_table(["image_key", "image_id", "labels"]).sort_by("image_id")
    wanted = pc.scalar(True) if k is None else pc.field("rank") <= k
    if queries is not None:
        wanted = wanted & pc.field("query_key").isin(_keys_of(study, images, queries))
    rows = study.dataset(*parts).to_table(filter=wanted)
    keys = images["image_key"].to_numpy()
    order = np.argsort(keys)
    query, neighbor = (_places(keys, order, rows[name].to_numpy()) for name in ("query_key", "neighbor_key"))
    by_query = np.lexsort((rows["rank"].to_numpy(), query))
    ids, labels = (_objects(images[name]) for name in ("image_id", "labels"))
    frame = pd.DataFrame(
        {
            "query": ids[query],
            "rank": rows["rank"].to_numpy(),
            "neighbor": ids[neighbor],
            "distance": rows["distance"].to_numpy(),
            "query_labels": labels[query],
            "neighbor_labels": labels[neighbor],
            "query_key": rows["query_key"].to_numpy(),
            "neighbor_key": rows["neighbor_key"].to_numpy(),
        }
    )
    return frame.iloc[by_query].reset_index(drop=True)


def search_of(study: Study, dataset: str, encoder: str, index: str) -> tuple[str, str]:
    """Directories of one search below `dataset`; UserError where there is none of that name."""
    names = study.names(dataset, path_name(encoder))
    if index not in names:
        near = nearest(index, names) or f"there: {', '.join(names) or 'none'}"
        raise UserError(f"no {dataset} of {encoder} by '{index}'; {near}; make them with: {MADE_BY[dataset]}")
    return path_name(encoder), path_name(index)


def image_ids(study: Study, asked: np.ndarray) -> np.ndarray:
    """Keys (n,) -> image_ids (n,) object."""
    images = study.dataset("manifest").to_table(["image_key", "image_id"])
    keys = images["image_key"].to_numpy()
    return _objects(images["image_id"])[_places(keys, np.argsort(keys), asked)]


def _keys_of(study: Study, images: pa.Table, queries: str | Iterable[str]) -> pa.Array:
    """A SQL predicate over the manifest, or image_ids -> their keys."""
    if isinstance(queries, str):
        return keys_where(study, queries, role="queries")["image_key"].combine_chunks()
    asked = pa.array(list(queries), pa.string())
    unknown = asked.filter(pc.invert(pc.is_in(asked, images["image_id"].combine_chunks())))
    if len(unknown):
        first = unknown[0].as_py()
        near = nearest(first, images["image_id"].to_pylist())
        raise UserError(
            f"no image {first!r} in the manifest; {near + '; ' if near else ''}expected image_ids, or a predicate such as \"split = 'test'\""
        )
    return images.filter(pc.is_in(images["image_id"], asked))["image_key"].combine_chunks()


def _places(keys: np.ndarray, order: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """keys (n,), and the order that sorts them; asked (m,) -> (m,) where each of them stands in `keys`."""
    places = order[np.minimum(np.searchsorted(keys, asked, sorter=order), len(keys) - 1)]
    gone = asked[keys[places] != asked]
    if len(gone):
        raise UserError(
            f"image {gone[0]} is not in the manifest, which is newer; make them again with: cbmir search, cbmir evaluate"
        )
    return places


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) object: text as str, lists as list."""
    return np.fromiter(column.to_pylist(), dtype=object, count=len(column))
