"""A projection beside the vectors that it made, in Parquet: projection/gallery.parquet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cbmir.reducing.pca import Projection
from cbmir.store import Publication, Study, path_name


def write_projection(out: Publication, projection: Projection, role: str) -> None:
    """One row a component, from 1, and the mean as row 0; role: whose images it was fitted to."""
    rows = np.vstack([projection.mean, projection.components])
    contract = _contract(rows.shape[1])
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=contract.field("vector").type)
    numbers = pa.array(range(len(rows)), pa.int32())
    variance = pa.array([None, *projection.variance], pa.float64())
    table = pa.table([numbers, variance, column], schema=contract)
    out.write_table(table, f"projection/{role}.parquet", "projection", contract)


def read_projection(study: Study, encoder: str) -> Projection:
    """The projection by which the images of a reduced encoder's gallery were projected."""
    path = study.path("embeddings", f"encoder={path_name(encoder)}", "projection", "gallery.parquet")
    table = pq.read_table(path, filesystem=study.fs).sort_by("component")
    rows = np.stack(table["vector"].to_numpy())
    return Projection(rows[0], rows[1:], table["variance"].to_numpy()[1:])


def _contract(dim: int) -> pa.Schema:
    """component, variance along it (null for the mean), and the component itself."""
    return pa.schema(
        [
            pa.field("component", pa.int32(), nullable=False),
            pa.field("variance", pa.float64()),
            pa.field("vector", pa.list_(pa.field("element", pa.float64()), dim), nullable=False),
        ]
    )
