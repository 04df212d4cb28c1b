"""phantoms: the collection that `cbmir phantoms` draws, by its phantoms.csv."""

from __future__ import annotations

import os

import pyarrow as pa

from cbmir.datasets import Options, csv_table
from cbmir.errors import UserError


def read(roots: list[str], options: Options) -> pa.Table:
    """Directories that `cbmir phantoms` made -> rows; which files are broken is not told to the manifest."""
    tables = []
    for root in roots:
        table = os.path.join(root, "phantoms.csv")
        if "://" not in root and not os.path.exists(table):
            raise UserError(
                f"no finished phantom collection at {root}; expected phantoms.csv there; draw one: cbmir phantoms {root}"
            )
        tables.append(csv_table.read([table], options).drop_columns("broken"))
    return pa.concat_tables(tables)
