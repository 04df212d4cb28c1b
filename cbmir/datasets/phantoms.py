"""phantoms: the collection that `cbmir phantoms` draws, by its phantoms.csv."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.datasets import Options, csv_table
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """Directories that `cbmir phantoms` made -> rows; which files are broken is not told to the manifest."""
    tables = []
    for root in roots:
        table = os.path.join(root, "phantoms.csv")
        if "://" not in root and not os.path.exists(table):
            raise UserError(
                f"no finished phantom collection at {root}; expected phantoms.csv there; draw one: cbmir phantoms {root}"
            )
        rows = csv_table.read([table], options, remarks).drop_columns("broken")
        prefix = pa.scalar(options.constants.get("dataset", "phantoms"))
        ids = pc.binary_join_element_wise(prefix, rows["image_id"], "/")
        tables.append(rows.set_column(rows.column_names.index("image_id"), "image_id", ids))
    return pa.concat_tables(tables)
