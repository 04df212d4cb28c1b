"""Contracts of the studies: index size, image size, search effort. Figures of samples keep the contract of `metrics`."""

from __future__ import annotations

import pyarrow as pa

from cbmir.schemas.field import field

SCALING_COSTS = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "exact, or the approximate index's name; NAME-tuned: its expansion found anew for each sample"),
        field("sampling", pa.string(), "random, stratified or patient"),
        field("seed", pa.int32(), "of the sample"),
        field("sample_size", pa.int64(), "images asked for; samples of whole patients have a few more"),
        field("gallery_size", pa.int64(), "embedded gallery images of the sample"),
        field("dtype", pa.string(), "of the graph", nullable=True),
        field("expansion_search", pa.int32(), "candidates kept during a walk", nullable=True),
        field("rerank", pa.int32(), "candidates a neighbor, scored by exact distance", nullable=True),
        field("recall", pa.float64(), "ANN recall: mean share of the first `recall_at` exact neighbors that are found"),
        field("recall_at", pa.int32(), "depth of that recall"),
        field("build_seconds", pa.float64(), "until the graph can be searched; without tuning", nullable=True),
        field("search_seconds", pa.float64(), "of all queries; exact: of this sample's share in the one pass over all sizes"),
        field("n_queries", pa.int64(), "queries that were embedded"),
        field("k", pa.int32(), "neighbors a query"),
        field("threads", pa.int32(), "that built and searched"),
        field("graph_bytes", pa.int64(), "file size of the graph", nullable=True),
        field("vector_bytes", pa.int64(), "of the sample's vectors as they are stored"),
        field("peak_bytes", pa.int64(), "most resident memory of the process while it built and searched; null for exact search, whose one pass is over all sizes", nullable=True),
    ]
)  # fmt: skip

VANISHED = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("sampling", pa.string(), "random, stratified or patient"),
        field("seed", pa.int32(), "of the sample"),
        field("sample_size", pa.int64(), "images asked for; samples of whole patients have a few more"),
        field("gallery_size", pa.int64(), "embedded gallery images of the sample"),
        field("relevance", pa.string(), "level at which nothing in the sample is relevant, though something in the gallery is"),
        field("label", pa.string(), "class of the queries that are left out of the sample's figures"),
        field("n_queries", pa.int64(), "queries of that class that are left out"),
        field("is_gone", pa.bool_(), "whether all of its queries are, so that the class has no figure at this size"),
    ]
)  # fmt: skip

FITS = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("index", pa.string(), "as in metrics"),
        field("sampling", pa.string(), "random, stratified or patient"),
        field("metric", pa.string(), "as in metrics"),
        field("relevance", pa.string(), "as in metrics"),
        field("k", pa.int32(), "as in metrics", nullable=True),
        field("slice_by", pa.string(), "as in metrics"),
        field("slice", pa.string(), "as in metrics"),
        field("average", pa.string(), "as in metrics"),
        field("model", pa.string(), "power: ceiling - scale * n^-exponent; logarithmic: intercept + slope * log10(n)"),
        field("is_chosen", pa.bool_(), "whether this model predicts the largest size better from the smaller ones"),
        field("parameters", pa.list_(pa.field("element", pa.float64())), "in the order in which `model` names them"),
        field("rmse", pa.float64(), "root mean square of what the fit leaves of the curve at the sizes studied"),
        field("gallery_size", pa.int64(), "for which the value is predicted"),
        field("value", pa.float64(), "predicted, 0..1"),
        field("ci_low", pa.float64(), "95 % interval: patients and samples drawn again, and the model fitted anew", nullable=True),
        field("ci_high", pa.float64(), "95 % interval", nullable=True),
        field("is_extrapolation", pa.bool_(), "whether no sample was as large"),
        field("n_sizes", pa.int64(), "sizes that the model was fitted to"),
        field("n_seeds", pa.int64(), "samples of each size, at the most"),
    ]
)  # fmt: skip

SEARCH_EFFORT = pa.schema(
    [
        field("encoder", pa.string(), "name in the study"),
        field("dtype", pa.string(), "of the graph; 'exact' for exact search"),
        field("pca", pa.int32(), "principal axes that the graph holds; null: everything", nullable=True),
        field("connectivity", pa.int32(), "edges of a node", nullable=True),
        field("expansion_search", pa.int32(), "candidates kept during a walk", nullable=True),
        field("rerank", pa.int32(), "candidates a neighbor, scored by exact distance", nullable=True),
        field("metric", pa.string(), "ann_recall, precision_at_k ...: stem of the file under sql/metrics"),
        field("relevance", pa.string(), "as in metrics"),
        field("k", pa.int32(), "the k asked for", nullable=True),
        field("value", pa.float64(), "mean over all queries"),
        field("ci_low", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        field("ci_high", pa.float64(), "95 % interval, bootstrap over patients", nullable=True),
        field("queries_per_second", pa.float64(), "median over the rounds, re-ranking included"),
        field("timed_queries", pa.int64(), "queries of each round, their vectors in memory"),
        field("threads", pa.int32(), "that searched"),
        field("build_seconds", pa.float64(), "of the graph", nullable=True),
        field("graph_bytes", pa.int64(), "file size of the graph", nullable=True),
        field("is_pareto", pa.bool_(), "whether no other point of this encoder, metric and k is as fast and as good, and one of both more"),
        field("n_queries", pa.int64(), "queries in the mean"),
        field("gallery_size", pa.int64(), "embedded gallery images"),
    ]
)  # fmt: skip

IMAGE_SIZES = pa.schema(
    [
        field("encoder", pa.string(), "name of these embeddings in the study, as in metrics"),
        field("base_encoder", pa.string(), "the encoder that all sizes share"),
        field("image_size", pa.int32(), "side in pixels to which each image is brought (~px in its name) before the encoder's own preprocessing"),
        field("seconds_per_image", pa.float64(), "of the device, in forward passes of the last attempt; decoding is shared by all sizes", nullable=True),
    ]
)  # fmt: skip
