"""Contracts of what volumes have beside what images have: their slices, and which of them match."""

from __future__ import annotations

import pyarrow as pa

from cbmir.schemas.field import field

SLICES = pa.schema(
    [
        field("image_key", pa.int64(), "of the volume: manifest.image_key of the study of volumes"),
        field("slice_key", pa.int64(), "of the slice: manifest.image_key of the study of images"),
        field("place", pa.int32(), "of the slice among the volume's slices, from 0"),
        field("slice", pa.int32(), "manifest.slice of the study of images", nullable=True),
        field("uri", pa.string(), "of the slice"),
        field("embedded", pa.bool_(), "whether the encoder has a vector of the slice"),
    ]
)

MATCHED_SLICES = pa.schema(
    [
        field("query_key", pa.int64(), "of the volume that was asked for"),
        field("neighbor_key", pa.int64(), "of the volume that was found"),
        field("rank", pa.int16(), "of that volume, as in neighbors"),
        field("match", pa.int16(), "from 1: the nearest pair of slices; a slice is in one pair of two volumes at most"),
        field("query_slice_key", pa.int64(), "slice of the query: slices.slice_key"),
        field("neighbor_slice_key", pa.int64(), "slice of the neighbor: slices.slice_key"),
        field("distance", pa.float32(), "between the two slices, by the metric of the search"),
    ]
)
