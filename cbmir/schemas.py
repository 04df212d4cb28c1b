"""The contracts between the stages, as pyarrow schemas.

Every dataset of a study has one schema here, and every field its comment. `check` compares a table with its
contract; `describe` prints one for people. This module imports nothing of cbmir.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat


class ContractError(ValueError):
    """A table that does not keep its contract; the message names dataset, column, found and expected."""

    exit_code = 2


def _field(name: str, kind: pa.DataType, comment: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})


_LABELS = pa.list_(pa.field("element", pa.string()))

MANIFEST = pa.schema(
    [
        _field("image_id", pa.string(), "<dataset>/<relative path>, and #<slice> for a slice of a volume"),
        _field("image_key", pa.int64(), "> 0, from a hash of image_id; unique"),
        _field(
            "uri", pa.string(), "where the pixels are: a path or object-store address, with #fragment inside a file"
        ),
        _field("dataset", pa.string(), "the collection that the image came from"),
        _field("split", pa.string(), "train, val or test, as the dataset's authors gave it; else unknown"),
        _field("patient_id", pa.string(), "null where the source has none", nullable=True),
        _field("study_id", pa.string(), "null where the source has none", nullable=True),
        _field("modality", pa.string(), "XR, CT, MR, US ...; 'unknown' where the source does not say"),
        _field("region", pa.string(), "anatomic region in lower case; 'unknown' where the source does not say"),
        _field("labels", _LABELS, "present findings, MODALITY/region/finding; empty where none is known"),
        _field("unknown_labels", _LABELS, "findings that the source left blank or marked uncertain"),
        _field("volume_id", pa.string(), "the volume of which this is a slice", nullable=True),
        _field("slice", pa.int32(), "position in the volume, from 0", nullable=True),
    ]
)

REMARKS = pa.schema(
    [
        _field("remark", pa.string(), "kind: missing_image, unknown_label, duplicate_id ..."),
        _field("file", pa.string(), "where it was found", nullable=True),
        _field("row", pa.int64(), "row of that file, its header being row 1", nullable=True),
        _field("detail", pa.string(), "one line"),
    ]
)

IMAGE_FACTS = pa.schema(
    [
        _field("image_key", pa.int64(), "manifest.image_key"),
        _field("uri", pa.string(), "manifest.uri when it was looked at"),
        _field("stage", pa.string(), "read or decode, where that failed", nullable=True),
        _field("error", pa.string(), "one line, where it failed", nullable=True),
        _field("format", pa.string(), "PNG, JPEG, DICOM, NIfTI, NPZ ...", nullable=True),
        _field("width", pa.int32(), "pixels", nullable=True),
        _field("height", pa.int32(), "pixels", nullable=True),
        _field("channels", pa.int32(), "as stored", nullable=True),
        _field("bit_depth", pa.int32(), "bits of one channel as stored", nullable=True),
        _field("file_bytes", pa.int64(), "of the file, with all images in it", nullable=True),
        _field("pixels_hash", pa.string(), "equal for equal pictures, whatever file carries them", nullable=True),
        _field("perceptual_hash", pa.int64(), "64 bits, few of which differ between alike pictures", nullable=True),
    ]
)

PROBLEMS = pa.schema(
    [
        _field("problem", pa.string(), "stem of the file under sql/inspection"),
        _field("group_id", pa.int64(), "images that are copies of each other share one", nullable=True),
        _field("image_key", pa.int64(), "manifest.image_key; null for a label or a patient", nullable=True),
        _field("detail", pa.string(), "one line"),
    ]
)

PACKED = pa.schema(
    [
        _field("image_key", pa.int64(), "manifest.image_key"),
        _field("image", pa.binary(), "PNG, 8 bits a channel: one channel where the source is grey, else three (RGB)"),
        _field("width", pa.int32(), "pixels of the packed image"),
        _field("height", pa.int32(), "pixels of the packed image"),
        _field("source_width", pa.int32(), "pixels before it was shrunk, upright; equal to width where it was not"),
        _field("source_height", pa.int32(), "pixels before it was shrunk, upright; equal to height where it was not"),
    ]
)

FAILURES = pa.schema(
    [
        _field("image_key", pa.int64(), "manifest.image_key"),
        _field("uri", pa.string(), "manifest.uri"),
        _field("stage", pa.string(), "read, decode or encode; import where published vectors lack it"),
        _field("error", pa.string(), "one line"),
    ]
)

NEIGHBORS = pa.schema(
    [
        _field("query_key", pa.int64(), "manifest.image_key of the query"),
        _field("neighbor_key", pa.int64(), "manifest.image_key of the gallery image"),
        _field("rank", pa.int16(), "from 1; ties in distance by neighbor_key"),
        _field(
            "distance",
            pa.float32(),
            "by the metric in run.json: cosine distance, 0..2; Euclidean; or 1 - inner product",
        ),
    ]
)

QUERY_METRICS = pa.schema(
    [
        _field("query_key", pa.int64(), "manifest.image_key of the query"),
        _field("metric", pa.string(), "stem of the file under sql/metrics"),
        _field("relevance", pa.string(), "what makes a neighbor right: a level of sql/staging; '' where none is asked"),
        _field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        _field("value", pa.float64(), "as the metric's file defines it"),
        _field("chance", pa.float64(), "the value expected of a gallery in random order", nullable=True),
    ]
)

METRICS = pa.schema(
    [
        _field("encoder", pa.string(), "name in the study"),
        _field("index", pa.string(), "exact, or the approximate index's name"),
        _field("metric", pa.string(), "stem of the file under sql/metrics"),
        _field("relevance", pa.string(), "what makes a neighbor right: a level of sql/staging; '' where none is asked"),
        _field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        _field("slice_by", pa.string(), "all, label, region, modality, dataset or another manifest column"),
        _field("slice", pa.string(), "value of that column; 'all' for slice_by = all"),
        _field("average", pa.string(), "micro: mean over queries; macro: mean over classes of the mean within each"),
        _field("value", pa.float64(), "mean"),
        _field(
            "std", pa.float64(), "over queries (n - 1); macro: mean over classes of that within each", nullable=True
        ),
        _field("chance", pa.float64(), "the same mean for a gallery in random order", nullable=True),
        _field("lift", pa.float64(), "value / chance; null where chance is 0 or unknown", nullable=True),
        _field("ci_low", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        _field("ci_high", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        _field("n_queries", pa.int64(), "queries in this mean, failed and unanswerable ones included (they score 0)"),
        _field("n_failed", pa.int64(), "of these, queries that could not be embedded"),
        _field("n_unanswerable", pa.int64(), "of these, queries for which no gallery image is relevant"),
        _field("n_patients", pa.int64(), "patients of these queries; an image without patient counts as one"),
        _field("gallery_size", pa.int64(), "embedded gallery images"),
    ]
)

COMPARISONS = pa.schema(
    [
        _field("encoder_a", pa.string(), "name in the study"),
        _field("index_a", pa.string(), "exact, or the approximate index's name"),
        _field("encoder_b", pa.string(), "name in the study"),
        _field("index_b", pa.string(), "exact, or the approximate index's name"),
        _field("metric", pa.string(), "stem of the file under sql/metrics"),
        _field("relevance", pa.string(), "as in metrics"),
        _field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        _field("slice_by", pa.string(), "as in metrics"),
        _field("slice", pa.string(), "as in metrics"),
        _field("average", pa.string(), "micro or macro, as in metrics"),
        _field("value_a", pa.float64(), "mean of a"),
        _field("value_b", pa.float64(), "mean of b, over the same queries"),
        _field("difference", pa.float64(), "value_a - value_b"),
        _field("ci_low", pa.float64(), "95 % interval of the difference, the resamples shared by both", nullable=True),
        _field("ci_high", pa.float64(), "95 % interval of the difference", nullable=True),
        _field("p_value", pa.float64(), "two-sided, a and b exchanged at random by patient", nullable=True),
        _field("p_holm", pa.float64(), "p_value after Holm's correction over its n_tests rows", nullable=True),
        _field("n_tests", pa.int64(), "rows of the same question, over which p_holm holds"),
        _field("n_queries", pa.int64(), "queries in these means"),
        _field("n_patients", pa.int64(), "patients of these queries; an image without patient counts as one"),
    ]
)

CLASSIFICATION = pa.schema(
    [
        _field("encoder", pa.string(), "name in the study"),
        _field("index", pa.string(), "whose neighbors vote; '' for a classifier that asks none"),
        _field("classifier", pa.string(), "knn or linear_probe"),
        _field("split", pa.string(), "val, where k or the epoch was chosen, or test"),
        _field("k", pa.int32(), "neighbors that vote (knn)", nullable=True),
        _field("seed", pa.int32(), "of a trained classifier", nullable=True),
        _field("chosen", pa.bool_(), "whether this is the k (of knn) with the best micro F1 on val"),
        _field("metric", pa.string(), "accuracy, f1, precision, recall or roc_auc"),
        _field("average", pa.string(), "micro: over all images and labels; macro: mean over labels"),
        _field("value", pa.float64(), "null where no label can be judged", nullable=True),
        _field("n_labels", pa.int64(), "labels in a macro mean; all of them for micro"),
        _field("n_queries", pa.int64(), "images that were judged, failed ones included"),
        _field("n_failed", pa.int64(), "of these, images that could not be embedded"),
    ]
)

PREDICTIONS = pa.schema(
    [
        _field("image_key", pa.int64(), "manifest.image_key"),
        _field("label", pa.string(), "one of the labels that the classifier was trained with"),
        _field("score", pa.float32(), "probability, 0..1; those of an image sum to 1"),
    ]
)

CONFUSIONS = pa.schema(
    [
        _field("encoder", pa.string(), "name in the study"),
        _field("index", pa.string(), "exact, or the approximate index's name"),
        _field("label", pa.string(), "of the query"),
        _field(
            "retrieved", pa.string(), "label of the nearest neighbor; '' where it has none, or there is no neighbor"
        ),
        _field(
            "share", pa.float64(), "of the queries with `label`; a neighbor with several labels is shared among them"
        ),
        _field("n_queries", pa.int64(), "queries with `label`"),
    ]
)

HUBNESS = pa.schema(
    [
        _field("encoder", pa.string(), "name in the study"),
        _field("index", pa.string(), "exact, or the approximate index's name"),
        _field("k", pa.int32(), "the first k neighbors of each query are counted"),
        _field("skewness", pa.float64(), "of the times that gallery images are found; 0: all alike", nullable=True),
        _field("never_found", pa.float64(), "share of gallery images that no query finds"),
        _field("top_share", pa.float64(), "share of all places that the most found 1 % of the gallery take"),
        _field("most_found", pa.int64(), "times that the most found image is found"),
        _field("most_found_key", pa.int64(), "manifest.image_key of that image", nullable=True),
        _field("n_queries", pa.int64(), "queries that were embedded"),
        _field("gallery_size", pa.int64(), "embedded gallery images"),
    ]
)


def embeddings(dim: int, *, dtype: str = "float32") -> pa.Schema:
    """Contract of one encoder's vectors: image_key, embedding of `dim` float16 or float32, not normalised."""
    item = {"float32": pa.float32(), "float16": pa.float16()}[dtype]
    vector = pa.list_(pa.field("element", item), dim)
    return pa.schema(
        [
            _field("image_key", pa.int64(), "manifest.image_key"),
            _field("embedding", vector, "the model's own output, not normalised"),
        ]
    )


CONTRACTS: dict[str, pa.Schema] = {
    "manifest": MANIFEST,
    "remarks": REMARKS,
    "image_facts": IMAGE_FACTS,
    "problems": PROBLEMS,
    "packed": PACKED,
    "packed_failures": FAILURES,
    "failures": FAILURES,
    "neighbors": NEIGHBORS,
    "query_metrics": QUERY_METRICS,
    "metrics": METRICS,
    "comparisons": COMPARISONS,
    "classification": CLASSIFICATION,
    "predictions": PREDICTIONS,
    "confusions": CONFUSIONS,
    "hubness": HUBNESS,
}
_OPEN = {"manifest"}  # may carry further columns


def check(table: pa.Table, dataset: str, contract: pa.Schema | None = None) -> pa.Table:
    """`table` unchanged if it keeps the contract of `dataset`, else ContractError naming the first breach.

    Column order does not matter; only the manifest may hold further columns; a column that the contract calls
    required holds no null.
    """
    contract = contract or CONTRACTS[dataset]
    for field in contract:
        if field.name not in table.column_names:
            have = ", ".join(table.column_names)
            raise ContractError(f"{dataset}: column '{field.name}' is missing (found: {have}); expected {field.type}")
        column = table.column(field.name)
        if not _same_type(column.type, field.type):
            raise ContractError(f"{dataset}: column '{field.name}' is {column.type}; expected {field.type}")
        if not field.nullable and column.null_count:
            raise ContractError(f"{dataset}: column '{field.name}' has {column.null_count} nulls; expected none")
    extra = [name for name in table.column_names if name not in contract.names]
    if extra and dataset not in _OPEN:
        raise ContractError(f"{dataset}: unexpected column '{extra[0]}'; expected only {', '.join(contract.names)}")
    return table


def _same_type(found: pa.DataType, expected: pa.DataType) -> bool:
    if pat.is_fixed_size_list(expected):
        same_shape = pat.is_fixed_size_list(found) and found.list_size == expected.list_size
        return same_shape and found.value_type == expected.value_type
    if pat.is_list(expected):
        return pat.is_list(found) and found.value_type == expected.value_type
    return found == expected


def image_key(image_id: str) -> int:
    """Stable positive 63-bit key of an image: the first 8 bytes of BLAKE2b(image_id), sign bit cleared.

    Needs no coordination between writers and does not change when a collection grows; at 1.6 M images the chance of
    any collision is 1.4e-7, and writers of a manifest check for it.
    """
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF_FFFF_FFFF or 1


def block_name(keys: pa.ChunkedArray) -> str:
    """File name of a block of rows: hash of its keys in ascending order, so that a retried task overwrites itself."""
    ordered = pc.take(keys, pc.sort_indices(keys)).combine_chunks()
    return hashlib.sha256(ordered.to_numpy().tobytes()).hexdigest()[:24] + ".parquet"


def describe(dataset: str) -> str:
    """The contract of `dataset` as lines 'column  type  comment'."""
    lines = []
    for field in CONTRACTS[dataset]:
        kind = f"{field.type}{'?' if field.nullable else ''}"
        lines.append(f"{field.name:<15} {kind:<24} {field.metadata[b'comment'].decode()}")
    return "\n".join(lines)
