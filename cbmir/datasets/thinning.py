"""Every nth slice of each volume: neighbors in a volume look alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError


def every_nth(rows: pa.Table, every: int, notes: list[str]) -> pa.Table:
    """Rows with dataset, volume_id and slice -> those of every `every`th slice of each volume, and all that are in no volume.

    Slices are counted by their numbers, from the lowest that a volume has, which is always kept; a slice keeps its number.
    """
    placed = pc.and_(pc.is_valid(rows["volume_id"]), pc.is_valid(rows["slice"]))
    if not pc.any(placed).as_py():
        raise UserError(f"--every {every}: none of the rows is a slice of a volume; leave it out")
    dataset = pc.fill_null(rows["dataset"], "") if "dataset" in rows.column_names else ""
    volumes = pc.binary_join_element_wise(dataset, pc.fill_null(rows["volume_id"], ""), "\0")
    codes = pc.dictionary_encode(volumes.combine_chunks()).indices.to_numpy(zero_copy_only=False)
    slices = pc.fill_null(rows["slice"].cast(pa.int64()), 0).to_numpy()
    of_volume = placed.to_numpy()
    lowest = np.full(codes.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, codes[of_volume], slices[of_volume])
    kept = ~of_volume
    kept[of_volume] = (slices[of_volume] - lowest[codes[of_volume]]) % every == 0
    notes.append(f"one of {every:,} slices of each volume: {kept.sum():,} of {rows.num_rows:,} rows kept")
    return rows.filter(pa.array(kept))
