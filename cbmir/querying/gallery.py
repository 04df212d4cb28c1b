"""The images that can be found, and what the manifest says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.select import attach_manifest, connect, keys_where, select_where
from cbmir.store import Study

COLUMNS = ("image_id", "labels", "modality", "region", "split", "uri")
PATH = "filepath"  # of the published split files (source denner-csv)
MOST_HELD = 2_000_000  # rows: some 400 MB; a larger gallery's are looked up in Parquet for every batch


class Gallery:
    """Rows of the manifest that a predicate selects."""

    def __init__(self, study: Study, predicate: str) -> None:
        self.predicate = predicate
        self.keys: np.ndarray = keys_where(study, predicate, role="gallery")["image_key"].to_numpy()  # ascending
        self._connection = connect()
        attach_manifest(self._connection, study)
        there = [row[0] for row in self._connection.execute("DESCRIBE manifest").fetchall()]
        path = f"coalesce({PATH}::TEXT, image_id)" if PATH in there else "image_id"
        self._columns = f"image_key, {', '.join(COLUMNS)}, {path} AS path"
        self._rows: pa.Table | None = None

    def load(self) -> None:
        """Read what the manifest says, where it fits into the memory that is meant for it."""
        if self._rows is None and len(self.keys) <= MOST_HELD:
            rows = select_where(self._connection, self.predicate, self._columns, role="gallery")
            self._rows = rows.combine_chunks()

    def described(self, keys: np.ndarray) -> list[dict[str, Any]]:
        """What the manifest says of the images `keys`, in their order: COLUMNS, and path: filepath where it has that column, else image_id."""
        if len(keys) == 0:
            return []
        held = self._held(keys) if self._rows is None else self._rows
        ascending = held["image_key"].to_numpy()
        place = np.minimum(np.searchsorted(ascending, keys), max(0, len(ascending) - 1))
        if len(ascending) == 0 or (ascending[place] != keys).any():
            raise UserError(
                f"the index holds images that are not in its gallery any more ({self.predicate}); rebuild it with: cbmir index"
            )
        rows = held.take(pa.array(place)).drop_columns("image_key").to_pylist()
        return [row | {"labels": row["labels"] or []} for row in rows]

    def _held(self, keys: np.ndarray) -> pa.Table:
        self._connection.register("wanted", {"image_key": np.unique(keys)})
        try:
            return self._connection.sql(
                f"SELECT {self._columns} FROM manifest JOIN wanted USING (image_key) ORDER BY image_key"
            ).to_arrow_table()
        finally:
            self._connection.unregister("wanted")
