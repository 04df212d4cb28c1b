"""Encoders in the order of their figures, with what can be said of the differences: rows, and their text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from cbmir.report.sources import Sources, bare
from cbmir.schemas import COMPARISONS
from cbmir.select import attach

_LEFT = 2  # columns that are words: rank and encoder


def question_of(sources: Sources, encoders: list[str]) -> int:
    """The question that most of the encoders were searched exactly for, of several that of the searches named exact; 1 where none was."""
    exact = [s for s in sources.searches if s["encoder"] in encoders and s["is_exact"]]
    named = Counter(s["question"] for s in exact if s["index"] == "exact")
    answered = Counter(number for number, _ in {(s["question"], s["encoder"]) for s in exact})
    return min(answered, key=lambda number: (-answered[number], -named[number], number), default=1)


def ranking(sources: Sources, encoders: list[str], *, question: int, relevance: str, k: int) -> list[dict[str, Any]]:
    """The rows of sql/report/ranking.sql, shares in 0..1: of those encoders whose exact searches ask `question` and were scored at that relevance and k."""
    connection, study = sources.connection, sources.study
    if study.run_of("comparisons"):
        attach(connection, "comparisons", study, study.files("comparisons"))
    else:
        connection.register("comparisons", COMPARISONS.empty_table())
    connection.register("ranked", pa.table({"encoder": pa.array(encoders, pa.string())}))
    return sources.rows("ranking", question=question, relevance=relevance, k=k)


def ranking_text(rows: list[dict[str, Any]], *, relevance: str, k: int) -> str:
    """The ranking as an aligned table, shares in percent, and what its last columns mean."""
    tested = any(row["n_tests"] for row in rows)
    heads = ["rank", "encoder", f"P@{k} [95 %]", "macro [95 %]", "chance", "lift", "queries", "failed", "patients"]
    heads += ["to the best [95 %]", "p", "p (Holm)", "differs"] if tested else []
    cells = [_cells(row, tested=tested) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [_line(heads, widths), *(_line(line, widths) for line in cells), ""]
    return "\n".join([*lines, *_notes(rows, relevance=relevance, k=k, tested=tested)]) + "\n"


def question(search: dict[str, Any]) -> str:
    """What a search asked, in the words of its predicates: `search` has gallery, queries and exclude_same, a list or a text."""
    passed = search["exclude_same"] if isinstance(search["exclude_same"], str) else ", ".join(search["exclude_same"])
    over = f"; neighbors with the query's own {passed} passed over" if passed else ""
    return f"gallery: {bare(search['gallery'])}; queries: {bare(search['queries'])}{over}"


def interval(value: float | None, low: float | None, high: float | None, *, sign: str = "") -> str:
    """(0.523, 0.47, 0.576) -> '52.3 [47.0, 57.6]'; without bounds '52.3'; '-' for no value. `sign` '+': of a difference."""
    if value is None:
        return "-"
    bounds = f" [{100 * low:{sign}z.1f}, {100 * high:{sign}z.1f}]" if low is not None and high is not None else ""
    return f"{100 * value:{sign}z.1f}{bounds}"


def _cells(row: dict[str, Any], *, tested: bool) -> list[str]:
    cells = [
        str(row["rank"]),
        row["encoder"] + (" *" if row["random_weights"] else ""),
        interval(row["value"], row["ci_low"], row["ci_high"]),
        interval(row["macro"], row["macro_low"], row["macro_high"]),
        interval(row["chance"], None, None),
        "-" if row["lift"] is None else f"{row['lift']:.1f}x",
        *(f"{row[name]:,}" for name in ("n_queries", "n_failed", "n_patients")),
    ]
    if not tested:
        return cells
    if row["is_best"]:
        return [*cells, "the best", "", "", ""]
    apart = interval(row["difference"], row["difference_low"], row["difference_high"], sign="+")
    told = {True: "yes", False: "no", None: "-"}[row["differs"]]
    return [*cells, apart, *("-" if p is None else f"{p:.4f}" for p in (row["p_value"], row["p_holm"])), told]


def _notes(rows: list[dict[str, Any]], *, relevance: str, k: int, tested: bool) -> list[str]:
    best = next(row["encoder"] for row in rows if row["is_best"])
    lines = [
        f"P@{k} at relevance {relevance}, in percent, micro (by which they are ranked) and macro; intervals over patients; chance: a gallery in random order."
    ]
    if tested:
        tests = max(row["n_tests"] or 0 for row in rows)
        alike = [row["encoder"] for row in rows if row["differs"] is False]
        lines.append(
            f"p: two-sided, answers exchanged at random by patient; Holm's correction holds over {tests:,} {'test' if tests == 1 else 'tests'}: "
            "every two encoders that answer this question, and each index against exact search."
        )
        lines.append(
            f"not distinguishable from {best} (corrected p of 0.05 or more): {', '.join(alike)}"
            if alike
            else f"every other encoder can be told from {best} (corrected p below 0.05)"
        )
    untested = [row["encoder"] for row in rows if not row["is_best"] and row["n_tests"] is None]
    if len(rows) == 1:
        lines.append("one encoder: there is nothing to test it against")
    elif untested:
        lines.append(
            f"not compared: {', '.join(untested)}; expected intervals, and searches of one question with one -k"
        )
    if any(row["random_weights"] for row in rows):
        lines.append("* random weights: an untrained encoder, a control")
    return lines


def _line(texts: list[str], widths: list[int]) -> str:
    aligned = [t.ljust(w) if i < _LEFT else t.rjust(w) for i, (t, w) in enumerate(zip(texts, widths, strict=True))]
    return "  ".join(aligned).rstrip()
