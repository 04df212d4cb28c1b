"""Contracts of what there is a row an image for, and of the neighbors between images."""

from __future__ import annotations

import pyarrow as pa

from cbmir.schemas.field import field

LABELS = pa.list_(pa.field("element", pa.string()))

MANIFEST = pa.schema(
    [
        field("image_id", pa.string(), "<dataset>/<relative path>, and #<slice> for a slice of a volume"),
        field("image_key", pa.int64(), "> 0, from a hash of image_id; unique"),
        field("uri", pa.string(), "where the pixels are: a path or object-store address, with #fragment inside a file"),
        field("dataset", pa.string(), "the collection that the image came from"),
        field("split", pa.string(), "train, val or test, as the dataset's authors gave it; else unknown"),
        field("patient_id", pa.string(), "null where the source has none", nullable=True),
        field("study_id", pa.string(), "null where the source has none", nullable=True),
        field("modality", pa.string(), "XR, CT, MR, US ...; 'unknown' where the source does not say"),
        field("region", pa.string(), "anatomic region in lower case; 'unknown' where the source does not say"),
        field("labels", LABELS, "present findings, MODALITY/region/finding; empty where none is known"),
        field("unknown_labels", LABELS, "findings that the source left blank or marked uncertain"),
        field("volume_id", pa.string(), "the volume of which this is a slice", nullable=True),
        field("slice", pa.int32(), "position in the volume, from 0", nullable=True),
    ]
)

REMARKS = pa.schema(
    [
        field("remark", pa.string(), "kind: missing_image, unknown_label, duplicate_id ..."),
        field("file", pa.string(), "where it was found", nullable=True),
        field("row", pa.int64(), "row of that file, its header being row 1", nullable=True),
        field("detail", pa.string(), "one line"),
    ]
)

IMAGE_FACTS = pa.schema(
    [
        field("image_key", pa.int64(), "manifest.image_key"),
        field("uri", pa.string(), "manifest.uri when it was looked at"),
        field("stage", pa.string(), "read or decode, where that failed", nullable=True),
        field("error", pa.string(), "one line, where it failed", nullable=True),
        field("format", pa.string(), "PNG, JPEG, DICOM, NIfTI, NPZ ...", nullable=True),
        field("width", pa.int32(), "pixels", nullable=True),
        field("height", pa.int32(), "pixels", nullable=True),
        field("channels", pa.int32(), "as stored", nullable=True),
        field("bit_depth", pa.int32(), "bits of one channel as stored", nullable=True),
        field("file_bytes", pa.int64(), "of the file, with all images in it", nullable=True),
        field("pixels_hash", pa.string(), "equal for equal pictures, whatever file carries them", nullable=True),
        field("perceptual_hash", pa.int64(), "64 bits, few of which differ between alike pictures", nullable=True),
    ]
)

PROBLEMS = pa.schema(
    [
        field("problem", pa.string(), "stem of the file under sql/inspection"),
        field("group_id", pa.int64(), "images that are copies of each other share one", nullable=True),
        field("image_key", pa.int64(), "manifest.image_key; null for a label or a patient", nullable=True),
        field("detail", pa.string(), "one line"),
    ]
)

PACKED = pa.schema(
    [
        field("image_key", pa.int64(), "manifest.image_key"),
        field("image", pa.binary(), "PNG, 8 bits a channel: one channel where the source is grey, else three (RGB)"),
        field("width", pa.int32(), "pixels of the packed image"),
        field("height", pa.int32(), "pixels of the packed image"),
        field("source_width", pa.int32(), "pixels before it was shrunk, upright; equal to width where it was not"),
        field("source_height", pa.int32(), "pixels before it was shrunk, upright; equal to height where it was not"),
    ]
)

FAILURES = pa.schema(
    [
        field("image_key", pa.int64(), "manifest.image_key"),
        field("uri", pa.string(), "manifest.uri"),
        field("stage", pa.string(), "read, decode or encode; import where published vectors lack it"),
        field("error", pa.string(), "one line"),
    ]
)

NEIGHBORS = pa.schema(
    [
        field("query_key", pa.int64(), "manifest.image_key of the query"),
        field("neighbor_key", pa.int64(), "manifest.image_key of the gallery image"),
        field("rank", pa.int16(), "from 1; ties in distance by neighbor_key"),
        field(
            "distance",
            pa.float32(),
            "by the metric in run.json: cosine distance, 0..2; Euclidean; or 1 - inner product",
        ),
    ]
)


def embeddings(dim: int, *, dtype: str = "float32") -> pa.Schema:
    """Contract of one encoder's vectors: image_key, embedding of `dim` float16 or float32, not normalised."""
    item = {"float32": pa.float32(), "float16": pa.float16()}[dtype]
    vector = pa.list_(pa.field("element", item), dim)
    return pa.schema(
        [
            field("image_key", pa.int64(), "manifest.image_key"),
            field("embedding", vector, "the model's own output, not normalised"),
        ]
    )
