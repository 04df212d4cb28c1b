"""How the figures were made: what each run.json says, the metrics' own definitions, and the commands to ask again."""

from __future__ import annotations

from typing import Any

from cbmir.report.sources import Sources, bare
from cbmir.sql_files import names, read
from cbmir.store import path_name

_SPEC = ("summary", "checkpoint", "license", "trained_on", "note", "citation", "geometry")


def datasets(sources: Sources) -> list[dict[str, Any]]:
    """One row a dataset behind the figures: name, rows, when, fingerprint, parameters as (name, value) pairs."""
    study = sources.study
    found = [_row("manifest", sources.manifest_run)]
    for encoder, run in sorted(sources.embeddings_runs.items()):
        spec = run.get("spec") or {}
        more = {key: run.get(key) for key in ("dim", "dtype", "precision", "decode", "random_weights", "failed")}
        more |= {"weights SHA-256": (run.get("weights_sha256") or "none")[:16]} | {key: spec.get(key) for key in _SPEC}
        if run.get("imported"):
            more["source"] = f"imported from {', '.join(run['imported'])}, by {run['matched_by']}"
        if "definition" in run:
            more["vector of a volume"] = run["definition"]
        if "source_dim" in run:
            more["reduced"] = _reduced(run)
        found.append(_row(f"embeddings of {encoder}", run, more, parameters={}))
    indexes = set()
    for (encoder, _), run in sorted(sources.neighbors_runs.items()):
        index = run["parameters"]["index"]
        built = study.run_of("index", path_name(encoder), path_name(index)) if index != "exact" else None
        if built and (encoder, index) not in indexes:
            indexes.add((encoder, index))
            found.append(_row(f"index {index} of {encoder}", built, {"zero_vectors": built.get("zero_vectors")}))
    for (encoder, index), run in sorted(sources.neighbors_runs.items()):
        counts = {key: run[key] for key in ("queries", "queries_not_embedded", "gallery", "gallery_not_embedded")}
        counts = {f"{key} (images)" if key in ("queries", "gallery") else key: value for key, value in counts.items()}
        found.append(_row(f"neighbors of {encoder} by {index}", run, counts))
    return [*found, _row("metrics", sources.metrics_run)]


def remarks(sources: Sources) -> list[dict[str, Any]]:
    """What was odd in the source, a row a kind: remark, count, first."""
    return [dict(entry) for entry in sources.manifest_run.get("remarks", [])]


def _row(
    name: str, run: dict[str, Any], more: dict[str, Any] | None = None, *, parameters: dict[str, Any] | None = None
) -> dict[str, Any]:
    shown = (run["parameters"] if parameters is None else parameters) | (more or {})
    pairs = [(key, _plain(value)) for key, value in shown.items() if value not in (None, {}, "")]
    keys = ("rows", "finished", "fingerprint")
    return {"name": name, "pairs": pairs, "git": (run.get("git") or "")[:12]} | {key: run.get(key) for key in keys}


def _reduced(run: dict[str, Any]) -> str:
    asked = run["parameters"]
    fits = [
        f"{fit['images']:,} images of {asked[role]} ({fit['explained_variance']:.1%} of their variance is kept)"
        for role, fit in run["fitted_to"].items()
    ]
    published = f", as published by {asked['as_published']}" if asked["as_published"] else ""
    return f"from {asked['source']}, {run['source_dim']:,} numbers, to principal components of {' and of '.join(fits)}{published}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return bare(f"{value:,}" if type(value) is int else str(value))


def definitions(sources: Sources) -> list[dict[str, str]]:
    """The headers of the statements that made the figures: their formulas, edge cases and differences from others."""
    query = "SELECT DISTINCT metric FROM metrics ORDER BY 1"
    metrics = [name for (name,) in sources.connection.execute(query).fetchall() if name in names("metrics")]
    files = [("metrics", name) for name in metrics]
    files += [("chance", name) for name in metrics if name in names("chance")]
    files += [("report", "averages"), ("staging", "queries"), ("staging", "hits")]
    return [{"file": f"sql/{kind}/{name}.sql", "text": header(read(kind, name))} for kind, name in files]


def header(text: str) -> str:
    """The comment that a statement opens with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").removeprefix(" "))
    return "\n".join(lines)


def questions(*, relevance: str, k: int) -> list[dict[str, str]]:
    """Statements that return the report's figures."""
    where = f"metric = 'precision_at_k' AND relevance = '{relevance}'"
    return [
        {
            "what": "the leaderboard's P@k",
            "sql": "SELECT encoder, index, average, k, value, chance, n_queries FROM metrics "
            f"WHERE {where} AND slice_by = 'all' AND k IN (1, 3, 5, 10) ORDER BY ALL",
        },
        {
            "what": "the recall of the approximate indexes",
            "sql": "SELECT encoder, index, k, value FROM metrics WHERE metric = 'ann_recall' AND slice_by = 'all' ORDER BY ALL",
        },
        {
            "what": f"P@{k} of every {relevance}",
            "sql": "SELECT slice, encoder, index, value, chance, n_queries FROM metrics "
            f"WHERE {where} AND slice_by = '{relevance}' AND average = 'micro' AND k = {k} ORDER BY value DESC",
        },
    ]


def versions(sources: Sources) -> list[tuple[str, str]]:
    """Package -> version, as the evaluation had it."""
    return sorted(
        (package, version) for package, version in (sources.metrics_run.get("versions") or {}).items() if version
    )


def several_versions(sources: Sources) -> bool:
    """Whether a stage ran with other versions than the evaluation."""
    last = sources.metrics_run.get("versions")
    return any(run.get("versions") != last for run in _runs(sources))


def revisions(sources: Sources) -> list[str]:
    """The git revisions of cbmir that the stages ran with, in their order; none for an installed package."""
    return list(dict.fromkeys(run["git"] for run in _runs(sources) if run.get("git")))


def _runs(sources: Sources) -> list[dict[str, Any]]:
    """run.json of everything behind the figures, in the order of the stages."""
    embeddings, neighbors = sources.embeddings_runs.values(), sources.neighbors_runs.values()
    return [sources.manifest_run, *embeddings, *neighbors, sources.metrics_run]
