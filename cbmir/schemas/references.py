"""Contract of the published figures that come with cbmir; no dataset of a study."""

from __future__ import annotations

import pyarrow as pa

from cbmir.schemas.field import field

PUBLISHED = pa.schema(
    [
        field("paper", pa.string(), "denner2024 or mahbod2024; cited in full in docs/studies.md"),
        field("dataset", pa.string(), "as the paper, or its files, call the images"),
        field("image_size", pa.int32(), "side of the images in pixels, where the paper compares sizes", nullable=True),
        field("encoder", pa.string(), "as printed"),
        field("cbmir_encoder", pa.string(), "the name of the same, or the nearest, in cbmir encoders", nullable=True),
        field("printed_metric", pa.string(), "as printed: P@1, mAP@5 ..."),
        field("metric", pa.string(), "the same by cbmir: stem of the file under sql/metrics"),
        field("k", pa.int32(), "as in metrics", nullable=True),
        field("average", pa.string(), "as in metrics; null: the paper does not say", nullable=True),
        field("value", pa.float64(), "share, 0..1; null: absent from the paper's tables", nullable=True),
        field("printed", pa.string(), "the figure as printed; percent in mahbod2024", nullable=True),
        field("note", pa.string(), "what is odd about the figure: a misprint, an absent row", nullable=True),
    ]
)
