"""Drawn datasets of the studies: rows that keep the contracts, of curves whose shape is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from cbmir.schemas import CONTRACTS
from cbmir.store import Study, run_record
from tests.studies import make_study

SIZES, SEEDS = (1_000, 4_000, 16_000, 64_000), (0, 1, 2)
ENCODERS, INDEXES = ("pixels32", "rad-dino"), ("exact", "hnsw", "hnsw-tuned")
LABELS = tuple(f"XR/chest/finding {i:02d}" for i in range(15))
LEVELS = {"label": 0.0, "region": 0.35, "modality": 0.42}
CURVE = ("encoder", "index", "sampling", "metric", "relevance", "k", "slice_by", "slice", "average")


def empty_study(root: Path) -> Study:
    """A manifest of two images, and nothing else."""
    rows = [{"image_id": "a", "labels": ["XR/chest/A"]}, {"image_id": "b", "split": "test", "labels": ["XR/chest/A"]}]
    return make_study(root, rows)


def publish(study: Study, dataset: str, rows: list[dict], *, inputs: dict[str, str] | None = None) -> None:
    """Rows with columns of the contract; those that a row lacks are null."""
    schema = CONTRACTS[dataset]
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    inputs = {"manifest": study.require("manifest")["fingerprint"]} if inputs is None else inputs
    with study.publishing(dataset) as out:
        out.write_table(table, f"{dataset}.parquet", dataset)
        out.run = run_record(dataset, parameters={}, inputs=inputs, rows=len(rows))


def value_of(encoder: str, size: float, *, ceiling: float = 0.75, shift: float = 0.0) -> float:
    """The curve that all drawn figures follow: a power law, in 0..1."""
    better = 0.06 * ENCODERS.index(encoder) if encoder in ENCODERS else 0.002 * (sum(map(ord, encoder)) % 40)
    return min(0.99, ceiling + better + shift - 4.0 * size**-0.35)


def figure(encoder: str, index: str, seed: int | None, size: int, value: float, **more) -> dict:
    return {
        "encoder": encoder, "index": index, "metric": "precision_at_k", "relevance": "label", "k": 1, "slice_by": "all", "slice": "all",
        "average": "micro", "value": value, "std": 0.4, "chance": 0.03, "lift": value / 0.03, "ci_low": value - 0.02, "ci_high": value + 0.02,
        "n_queries": 900, "n_failed": 0, "n_unanswerable": 0, "n_patients": 300, "gallery_size": size, "sampling": "random", "seed": seed,
        "sample_size": size, "n_vanished": 0,
    } | more  # fmt: skip


def scaling_rows(
    *, encoders=ENCODERS, indexes=INDEXES, sizes=SIZES, seeds=SEEDS, labels=LABELS, spread: float = 0.01
) -> list[dict]:
    """Figures of every sample: all queries at three levels and two k, by prevalence, and by label."""
    rng = np.random.default_rng(0)
    rows = []
    for encoder in encoders:
        for index in indexes:
            for seed in seeds:
                for size in sizes:
                    loss = 0.0 if index != "hnsw" else 0.012 * np.log10(size / 500)
                    at = (encoder, index, seed, size)
                    noise = spread * rng.uniform(-1, 1)
                    gone = 0 if size > 2_000 else 40
                    for k, lower in ((1, 0.0), (10, 0.08)):
                        for average, less in (("micro", 0.0), ("macro", 0.1)):
                            value = value_of(encoder, size, shift=noise - loss - lower - less)
                            rows.append(figure(*at, value, k=k, average=average, n_vanished=gone, n_queries=900 - gone))
                    for level, more in list(LEVELS.items())[1:]:
                        value = value_of(encoder, size * 30, shift=more - 0.3)
                        rows.append(figure(*at, value, relevance=level, chance=0.2))
                    for name, less in (("rare", 0.3), ("middle", 0.15), ("common", 0.0)):
                        value = max(0.01, value_of(encoder, size, shift=noise - less))
                        rows.append(figure(*at, value, slice_by="prevalence", slice=name, n_queries=300))
                    for i, label in enumerate(labels):
                        if i == 0 and size == min(sizes) and len(sizes) > 1:
                            continue  # vanished
                        value = min(0.99, max(0.0, value_of(encoder, size * (1 + i), shift=noise - 0.01 * i)))
                        rows.append(figure(*at, value, slice_by="label", slice=label, n_queries=5 if i == 1 else 60))
    return rows


def fit_rows(rows: list[dict], *, at=(256_000, 640_000)) -> list[dict]:
    """A power law and a logarithm for each curve over all queries and by prevalence, the first chosen; not fitted, but those that the drawn values follow."""
    curves: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["slice_by"] in ("all", "prevalence") and row["relevance"] == "label":
            curves.setdefault(tuple(row[name] for name in CURVE), []).append(row)
    found = []
    for key, points in curves.items():
        sizes = sorted({row["gallery_size"] for row in points})
        last = np.mean([row["value"] for row in points if row["gallery_size"] == sizes[-1]])
        parameters = [float(last + 4.0 * sizes[-1] ** -0.35), 4.0, 0.35]
        for model, chosen in (("power", True), ("logarithmic", False)):
            for size in (*sizes, *at):
                value = parameters[0] - parameters[1] * size ** -parameters[2]
                found.append(
                    dict(zip(CURVE, key, strict=True))
                    | {"model": model, "is_chosen": chosen, "parameters": parameters if chosen else [0.1, 0.1], "rmse": 0.003, "gallery_size": size,
                       "value": value if chosen else 0.1 + 0.1 * np.log10(size), "ci_low": value - 0.03, "ci_high": value + 0.02,
                       "is_extrapolation": size > sizes[-1], "n_sizes": len(sizes), "n_seeds": 3}
                )  # fmt: skip
    return found


def cost_rows(*, encoders=ENCODERS, indexes=INDEXES, sizes=SIZES, seeds=SEEDS) -> list[dict]:
    rng = np.random.default_rng(1)
    rows = []
    for encoder in encoders:
        for index in indexes:
            for seed in seeds:
                for size in sizes:
                    exact = index == "exact"
                    expansion = None if exact else 64 if index == "hnsw" else int(64 * (size / 1000) ** 0.4)
                    rows.append({
                        "encoder": encoder, "index": index, "sampling": "random", "seed": seed, "sample_size": size, "gallery_size": size,
                        "dtype": None if exact else "int8", "expansion_search": expansion, "rerank": None if exact else 2,
                        "recall": 1.0 if exact else 0.995 - (0.03 * np.log10(size / 1000) if index == "hnsw" else 0.001 * rng.random()), "recall_at": 10,
                        "build_seconds": None if exact else size * 2e-4 * (1 + 0.1 * rng.random()),
                        "search_seconds": (size * 1e-5 if exact else 0.2 + 0.05 * np.log10(size)) * (1 + 0.1 * rng.random()),
                        "n_queries": 900, "k": 10, "threads": 2, "graph_bytes": None if exact else size * 700, "vector_bytes": size * 2048,
                        "peak_bytes": None if exact else 500_000_000 + size * 3000,
                    })  # fmt: skip
    return rows


def vanished_rows(*, encoders=ENCODERS, seeds=SEEDS, size: int = SIZES[0], labels=LABELS[:1]) -> list[dict]:
    return [
        {"encoder": encoder, "sampling": "random", "seed": seed, "sample_size": size, "gallery_size": size, "relevance": "label", "label": label,
         "n_queries": 40, "is_gone": seed != 2}
        for encoder in encoders for seed in seeds for label in labels
    ]  # fmt: skip


def effort_rows(
    *, encoders=ENCODERS, dtypes=("float32", "int8"), reranks=(0, 2), expansions=(16, 32, 64, 128, 256)
) -> list[dict]:
    """Recall that grows with expansion and re-ranking, and speed that falls; fronts found by comparing all pairs."""
    rows = []
    for encoder in encoders:
        for name, level, best in (("ann_recall", "", 1.0), ("precision_at_k", "label", 0.62)):
            k = 10 if name == "ann_recall" else 1
            common = {
                "encoder": encoder,
                "metric": name,
                "relevance": level,
                "k": k,
                "threads": 2,
                "n_queries": 900,
                "timed_queries": 900,
                "gallery_size": 64_000,
            }
            here = [common | {"dtype": "exact", "value": best, "queries_per_second": 900.0, "pca": None, "connectivity": None, "expansion_search": None,
                              "rerank": None, "graph_bytes": None, "build_seconds": None}]  # fmt: skip
            for dtype in dtypes:
                for rerank in reranks:
                    for expansion in expansions:
                        loss = 0.35 * expansion**-0.5 * (2 if dtype == "int8" and not rerank else 1)
                        speed = (9000 if dtype == "int8" else 5000) / (1 + 0.3 * rerank) * (16 / expansion) ** 0.6
                        here.append(common | {
                            "dtype": dtype, "value": best * (1 - loss), "ci_low": best * (1 - loss) - 0.01, "ci_high": best * (1 - loss) + 0.01,
                            "queries_per_second": speed, "pca": None, "connectivity": 16, "expansion_search": expansion, "rerank": rerank,
                            "graph_bytes": 44_800_000, "build_seconds": 12.5,
                        })  # fmt: skip
            for row in here:
                row["is_pareto"] = not any(
                    other["value"] >= row["value"]
                    and other["queries_per_second"] >= row["queries_per_second"]
                    and other is not row
                    for other in here
                )
            rows += here
    return rows


def image_size_rows(*, bases=ENCODERS, sizes=(28, 64, 128, 224), timed: bool = True) -> tuple[list[dict], list[dict]]:
    """(image_sizes, metrics): an encoder a size, its P@1, P@10 and mAP@5 by exact search."""
    listed, figures = [], []
    whole = {"sampling": None, "sample_size": None, "n_vanished": None}
    for base in bases:
        for size in sizes:
            name = f"{base}@{size}"
            listed.append(
                {
                    "encoder": name,
                    "base_encoder": base,
                    "image_size": size,
                    "seconds_per_image": 0.001 * size**0.5 if timed else None,
                }
            )
            for average, less in (("micro", 0.0), ("macro", 0.08)):
                for metric, k, lower in (
                    ("precision_at_k", 1, 0.0),
                    ("precision_at_k", 10, 0.1),
                    ("average_precision_over_hits_at_k", 5, 0.3),
                ):
                    value = 0.4 + 0.1 * np.log10(size) - lower - less + 0.05 * list(bases).index(base)
                    figures.append(
                        figure(name, "exact", None, 64_000, value, metric=metric, k=k, average=average, **whole)
                    )
    return listed, figures


def forest_rows(encoders=ENCODERS, *, interval: float | None = 0.02) -> list[dict]:
    whole = {"sampling": None, "sample_size": None, "n_vanished": None}
    rows = []
    for place, encoder in enumerate(encoders):
        for average, less in (("micro", 0.0), ("macro", 0.1)):
            value = 0.6 - 0.01 * place - less
            ends = (
                {"ci_low": None, "ci_high": None}
                if interval is None
                else {"ci_low": value - interval, "ci_high": value + interval}
            )
            rows.append(figure(encoder, "exact", None, 64_000, value, average=average, **whole, **ends))
    return rows


def add_search(
    study: Study,
    encoder: str,
    index: str = "exact",
    *,
    saved_as: str | None = None,
    gallery: str = "split = 'train'",
    exclude_same: tuple[str, ...] = (),
    question: str = "train by test",
    queries: int = 900,
) -> str:
    """run.json of a search without neighbors -> its fingerprint. `question` is the same for the same images, however `gallery` is written."""
    parameters = {
        "gallery": gallery,
        "queries": "split = 'test'",
        "exclude_same": list(exclude_same),
        "index": index,
        "k": 10,
    }
    inputs = {"asked": f"{encoder} {saved_as or index}"}
    run = run_record("search", parameters=parameters, inputs=inputs, rows=0)
    run |= {"question": question, "queries": queries, "queries_not_embedded": 0}
    study.write_json(run, "neighbors", encoder, saved_as or index, "run.json")
    return run["fingerprint"]


def add_studies(study: Study, encoders: tuple[str, ...], *, vanished=LABELS[:1], **rows) -> None:
    """The studies of index sizes and of search effort; labels `vanished` from the smallest samples, `rows` are those of scaling_rows."""
    scaling = scaling_rows(encoders=encoders, **rows)
    publish(study, "scaling", scaling)
    publish(study, "fits", fit_rows(scaling))
    publish(study, "scaling_costs", cost_rows(encoders=encoders))
    publish(study, "vanished", vanished_rows(encoders=encoders, labels=vanished))
    publish(study, "search_effort", effort_rows(encoders=encoders))


def add_image_sizes(study: Study, encoders: tuple[str, ...], sizes=(28, 224)) -> None:
    """Two encoders that have figures, said to be one encoder at two sizes."""
    rows = [
        {"encoder": name, "base_encoder": "base", "image_size": size, "seconds_per_image": size / 1e4}
        for name, size in zip(encoders, sizes, strict=True)
    ]
    publish(study, "image_sizes", rows)


def whole_study(root: Path) -> Study:
    """All studies, two encoders, three indexes, three seeds."""
    study = empty_study(root)
    add_studies(study, ENCODERS)
    listed, figures = image_size_rows()
    publish(study, "image_sizes", listed)
    figures += forest_rows()
    names = dict.fromkeys(row["encoder"] for row in figures)
    publish(study, "metrics", figures, inputs={f"{name} exact": add_search(study, name) for name in names})
    return study
