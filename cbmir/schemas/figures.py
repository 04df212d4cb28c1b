"""Contracts of figures: of queries, of searches, and of classifiers."""

from __future__ import annotations

import pyarrow as pa

from cbmir.schemas.field import field

QUERY_METRICS = pa.schema(
    [
        field("query_key", pa.int64(), "manifest.image_key of the query"),
        field("metric", pa.string(), "stem of the file under sql/metrics"),
        field("relevance", pa.string(), "what makes a neighbor right: a level of sql/staging; '' where none is asked"),
        field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        field("value", pa.float64(), "as the metric's file defines it"),
        field("chance", pa.float64(), "the value expected of a gallery in random order", nullable=True),
    ]
)

METRICS = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "exact, or the approximate index's name"),
        field("metric", pa.string(), "stem of the file under sql/metrics"),
        field("relevance", pa.string(), "what makes a neighbor right: a level of sql/staging; '' where none is asked"),
        field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        field("slice_by", pa.string(), "all, label, region, modality, dataset or another manifest column"),
        field("slice", pa.string(), "value of that column; 'all' for slice_by = all"),
        field("average", pa.string(), "micro: mean over queries; macro: mean over classes of the mean within each"),
        field("value", pa.float64(), "mean"),
        field("std", pa.float64(), "over queries (n - 1); macro: mean over classes of that within each", nullable=True),
        field("chance", pa.float64(), "the same mean for a gallery in random order", nullable=True),
        field("lift", pa.float64(), "value / chance; null where chance is 0 or unknown", nullable=True),
        field("ci_low", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        field("ci_high", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        field("n_queries", pa.int64(), "queries in this mean, failed and unanswerable ones included (they score 0)"),
        field("n_failed", pa.int64(), "of these, queries that could not be embedded"),
        field("n_unanswerable", pa.int64(), "of these, queries for which no gallery image is relevant"),
        field("n_patients", pa.int64(), "patients of these queries; an image without patient counts as one"),
        field("gallery_size", pa.int64(), "embedded gallery images"),
        field(
            "sampling",
            pa.string(),
            "of a sample of the gallery: random, stratified, patient; null: all of it",
            nullable=True,
        ),
        field("seed", pa.int32(), "of that sample; null: all of the gallery", nullable=True),
        field("sample_size", pa.int64(), "images asked for; samples of whole patients have a few more", nullable=True),
        field(
            "n_vanished",
            pa.int64(),
            "queries left out of this mean: what is relevant to them is in the gallery, and not in the sample",
            nullable=True,
        ),
    ]
)

COMPARISONS = pa.schema(
    [
        field("encoder_a", pa.string(), "name in the study"),
        field("index_a", pa.string(), "exact, or the approximate index's name"),
        field("encoder_b", pa.string(), "name in the study"),
        field("index_b", pa.string(), "exact, or the approximate index's name"),
        field("metric", pa.string(), "stem of the file under sql/metrics"),
        field("relevance", pa.string(), "as in metrics"),
        field("k", pa.int32(), "the k asked for; null for metrics over all neighbors found", nullable=True),
        field("slice_by", pa.string(), "as in metrics"),
        field("slice", pa.string(), "as in metrics"),
        field("average", pa.string(), "micro or macro, as in metrics"),
        field("value_a", pa.float64(), "mean of a"),
        field("value_b", pa.float64(), "mean of b, over the same queries"),
        field("difference", pa.float64(), "value_a - value_b"),
        field("ci_low", pa.float64(), "95 % interval of the difference, the resamples shared by both", nullable=True),
        field("ci_high", pa.float64(), "95 % interval of the difference", nullable=True),
        field("p_value", pa.float64(), "two-sided, a and b exchanged at random by patient", nullable=True),
        field("p_holm", pa.float64(), "p_value after Holm's correction over its n_tests rows", nullable=True),
        field("n_tests", pa.int64(), "rows of the same question, over which p_holm holds"),
        field("n_queries", pa.int64(), "queries in these means"),
        field("n_patients", pa.int64(), "patients of these queries; an image without patient counts as one"),
    ]
)

CLASSIFICATION = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "whose neighbors vote; '' for a classifier that asks none"),
        field("classifier", pa.string(), "knn or linear_probe"),
        field("split", pa.string(), "val, where k or the epoch was chosen, or test"),
        field("k", pa.int32(), "neighbors that vote (knn)", nullable=True),
        field("seed", pa.int32(), "of a trained classifier", nullable=True),
        field("chosen", pa.bool_(), "whether this is the k (of knn) with the best micro F1 on val"),
        field("metric", pa.string(), "accuracy, f1, precision, recall or roc_auc"),
        field("average", pa.string(), "micro: over all images and labels; macro: mean over labels"),
        field("value", pa.float64(), "null where no label can be judged", nullable=True),
        field("n_labels", pa.int64(), "labels in a macro mean; all of them for micro"),
        field("n_queries", pa.int64(), "images that were judged, failed ones included"),
        field("n_failed", pa.int64(), "of these, images that could not be embedded"),
    ]
)

PREDICTIONS = pa.schema(
    [
        field("image_key", pa.int64(), "manifest.image_key"),
        field("label", pa.string(), "one of the labels that the classifier was trained with"),
        field("score", pa.float32(), "probability, 0..1; those of an image sum to 1"),
    ]
)

CONFUSIONS = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "exact, or the approximate index's name"),
        field("label", pa.string(), "of the query"),
        field("retrieved", pa.string(), "label of the nearest neighbor; '' where it has none, or there is no neighbor"),
        field(
            "share", pa.float64(), "of the queries with `label`; a neighbor with several labels is shared among them"
        ),
        field("n_queries", pa.int64(), "queries with `label`"),
    ]
)

HUBNESS = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "exact, or the approximate index's name"),
        field("k", pa.int32(), "the first k neighbors of each query are counted"),
        field("skewness", pa.float64(), "of the times that gallery images are found; 0: all alike", nullable=True),
        field("never_found", pa.float64(), "share of gallery images that no query finds"),
        field("top_share", pa.float64(), "share of all places that the most found 1 % of the gallery take"),
        field("most_found", pa.int64(), "times that the most found image is found"),
        field("most_found_key", pa.int64(), "manifest.image_key of that image", nullable=True),
        field("n_queries", pa.int64(), "queries that were embedded"),
        field("gallery_size", pa.int64(), "embedded gallery images"),
    ]
)
