"""Stage: neighbors + manifest + sql/ -> query_metrics, metrics, comparisons, confusions, hubness and kNN classification."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cbmir.as_published import denner2024
from cbmir.classifying.pairs import knn_figures
from cbmir.errors import UserError
from cbmir.evaluating.comparing import compare_searches
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.scoring import STEPS, Scores, score
from cbmir.evaluating.searches import Searched, depths, exact_of, find_searches
from cbmir.progress import Progress
from cbmir.store import Study, run_record


def evaluate(study: Study, options: EvaluateOptions | None = None, *, say=print) -> dict[str, Any]:
    """Score every search of the study; publishes query_metrics of each, and the figures of all; returns the run.json of metrics."""
    options = options or EvaluateOptions()
    options.refuse_nonsense()
    searches = find_searches(study)
    for searched in searches:
        depths(searched, options.ks)
    all_scores: list[Scores] = []
    notes: dict[str, None] = {}
    with Progress("evaluate", len(searches) * STEPS, unit="tables") as progress:
        for searched in searches:
            scores = score(study, searched, exact_of(searched, searches), options, told=lambda: progress.advance(1))
            notes |= dict.fromkeys(scores.notes)
            _publish_query_metrics(study, searched, scores, options)
            all_scores.append(scores)
    for note in notes:
        say(note)
    _classify(study, searches, say=say)
    if options.metrics and not any(scores.metrics.num_rows for scores in all_scores):
        raise UserError(
            f"--metric {' '.join(options.metrics)} gives no figure of any search; expected an index's search beside an exact one for ann_recall, "
            "cbmir manifest check for duplicates_at_k, and queries with labels for the others"
        )
    inputs = {s.name: s.run["fingerprint"] for s in searches}
    _publish(study, "comparisons", compare_searches(study, searches, options), inputs, options)
    for dataset in ("confusions", "hubness", "metrics"):
        record = _publish(study, dataset, pa.concat_tables([getattr(s, dataset) for s in all_scores]), inputs, options)
    return record


def as_published(study: Study, paper: str, *, say=print) -> list[dict[str, Any]]:
    """Publish the figures that a paper's own code gives, defects included: as_published/<paper>/<encoder>/<index> -> their run.json."""
    if paper != denner2024.NAME:
        raise UserError(f"--as-published {paper}; expected {denner2024.NAME}")
    return denner2024.write_denner2024(study, find_searches(study), say=say)


def _classify(study: Study, searches: list[Searched], *, say) -> None:
    """Publish classification/knn of the searches of val and test; a line says which search is missing."""
    rows, lines = knn_figures(study, searches)
    if not rows.num_rows:
        study.delete("classification", "knn")
    else:
        inputs = {"manifest": study.require("manifest")["fingerprint"]} | {
            s.name: s.run["fingerprint"] for s in searches
        }
        with study.publishing("classification", "knn") as out:
            out.write_table(rows, "knn.parquet", "classification")
            out.run = run_record("classification", parameters={}, inputs=inputs, rows=rows.num_rows)
    if lines:
        more = f"; and likewise for {len(lines) - 1:,} more searches" if len(lines) > 1 else ""
        say(lines[0] + more)


def _publish_query_metrics(study: Study, searched: Searched, scores: Scores, options: EvaluateOptions) -> None:
    """query_metrics/E/I; the memory of its rows is given back."""
    inputs = {"neighbors": searched.run["fingerprint"]}
    rows = scores.query_metrics.num_rows
    with study.publishing("query_metrics", *searched.parts[1:]) as out:
        out.write_table(scores.query_metrics, "query_metrics.parquet", "query_metrics")
        out.run = run_record("evaluate", parameters={"k": depths(searched, options.ks)}, inputs=inputs, rows=rows)
    scores.query_metrics = scores.query_metrics.slice(0, 0)


def _publish(
    study: Study, dataset: str, table: pa.Table, inputs: dict[str, str], options: EvaluateOptions
) -> dict[str, Any]:
    with study.publishing(dataset) as out:
        out.write_table(table, f"{dataset}.parquet", dataset)
        out.run = run_record(dataset, parameters=options.record(), inputs=inputs, rows=table.num_rows)
    return out.run
