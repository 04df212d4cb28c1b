"""The images or volumes that can be found, and what the manifest says of them; and what is known of volumes' slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError
from cbmir.select import attach_manifest, connect, keys_where, select_where
from cbmir.store import Study, path_name

COLUMNS = ("image_id", "labels", "modality", "region", "split", "uri")
PATH = "filepath"  # of the published split files (source denner-csv)
MOST_HELD = 2_000_000  # rows: some 400 MB; a larger gallery's are looked up in Parquet for every batch


class Gallery:
    """Rows of the manifest that a predicate selects; `further`: columns of it beyond COLUMNS."""

    def __init__(self, study: Study, predicate: str, *, further: tuple[str, ...] = ()) -> None:
        self.predicate = predicate
        self.keys: np.ndarray = keys_where(study, predicate, role="gallery")["image_key"].to_numpy()  # ascending
        self._connection = connect()
        attach_manifest(self._connection, study)
        there = [row[0] for row in self._connection.execute("DESCRIBE manifest").fetchall()]
        path = f"coalesce({PATH}::TEXT, image_id)" if PATH in there else "image_id"
        self._columns = f"image_key, {', '.join((*COLUMNS, *further))}, {path} AS path"
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


class SliceRows:
    """Number and uri of the slices of a study of volumes: the number is the manifest's `slice`, else the place in the volume."""

    def __init__(self, volumes: Study, encoder: str) -> None:
        self._dataset = volumes.dataset("slices", f"encoder={path_name(encoder)}")
        self._rows: pa.Table | None = None

    def load(self) -> None:
        """Read all of them, where they fit into the memory that is meant for it."""
        if self._rows is None and self._dataset.count_rows() <= MOST_HELD:
            self._rows = self._read().sort_by("slice_key")

    def described(self, keys: np.ndarray) -> list[tuple[int, str]]:
        """(number, uri) of the slices `keys`, which are in the study, in their order."""
        held = self._rows
        if held is None:
            held = self._read(pc.field("slice_key").isin(np.unique(keys))).sort_by("slice_key")
        rows = held.take(pa.array(np.searchsorted(held["slice_key"].to_numpy(), keys)))
        return list(zip(rows["number"].to_pylist(), rows["uri"].to_pylist(), strict=True))

    def of_volume(self, key: int) -> list[dict[str, Any]]:
        """All slices of a volume in their order: slice_key, number, uri, embedded."""
        return self._read(pc.field("image_key") == key).sort_by("place").to_pylist()

    def _read(self, where: pc.Expression | None = None) -> pa.Table:
        table = self._dataset.to_table(columns=["slice_key", "slice", "place", "uri", "embedded"], filter=where)
        return table.append_column("number", pc.coalesce(table["slice"], table["place"])).drop_columns("slice")
