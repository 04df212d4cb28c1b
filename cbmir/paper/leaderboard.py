"""Encoders ranked, each held against the best with a paired test."""

from __future__ import annotations

from typing import Any

from cbmir.paper.exact import NO_EXACT, standing
from cbmir.paper.tex import DASH, Table, escape, marked, name
from cbmir.report.ranking import question, question_of, ranking
from cbmir.report.sources import Sources

NAME = "leaderboard"


def table(sources: Sources, encoders: tuple[str, ...] | None, *, relevance: str, k: int) -> Table | str:
    """The table of `encoders`, None: those whose exact searches ask the study's first question; or why there is none."""
    number = question_of(sources, list(encoders)) if encoders else 1
    exact = standing(sources, number)
    if not exact:
        return NO_EXACT
    rows = ranking(sources, list(encoders or exact), question=number, relevance=relevance, k=k)
    if not rows:
        return f"no exact search has P@{k} at relevance {relevance}"
    heads = [
        [("", 2), (f"P@{k} (\\%)", 2), ("", 4), ("difference to the best", 3)],
        [(text, 1) for text in ("rank", "encoder", r"micro [95\,\%]", r"macro [95\,\%]", "chance", "lift", "queries", "patients",
                                r"points [95\,\%]", "$p$", "$p$ (Holm)")],
    ]  # fmt: skip
    asked = escape(question(exact[rows[0]["encoder"]]))
    caption = (
        f"Encoders by P@{k} at relevance {escape(relevance)}, exact search; {asked}. Intervals over patients; chance: a gallery in random "
        "order; lift: P@$k$ over chance."
    )
    left = sorted(set(encoders or ()) - set(exact))
    return Table(NAME, caption, "rlrrrrrrrrr", heads, [_line(row) for row in rows], _notes(rows, left))


def _line(row: dict[str, Any]) -> list[str]:
    marks = ["*"] * bool(row["random_weights"]) + ["="] * (row["differs"] is False)
    cells = [
        str(row["rank"]),
        marked(name(row["encoder"]), *marks),
        _interval(row["value"], row["ci_low"], row["ci_high"]),
        _interval(row["macro"], row["macro_low"], row["macro_high"]),
        _interval(row["chance"], None, None),
        DASH if row["lift"] is None else f"{row['lift']:.1f}",
        f"{row['n_queries']:,}",
        f"{row['n_patients']:,}",
    ]
    if row["is_best"]:
        return [*cells, "best", "", ""]
    apart = _interval(row["difference"], row["difference_low"], row["difference_high"], sign="+")
    return [*cells, apart, *(DASH if p is None else f"{p:.4f}" for p in (row["p_value"], row["p_holm"]))]


def _interval(value: float | None, low: float | None, high: float | None, *, sign: str = "") -> str:
    """In percent; a sign makes it mathematics, whose minus is long enough."""
    if value is None:
        return DASH
    known = low is not None and high is not None
    bounds = rf" {{\footnotesize[{_number(low, sign)}, {_number(high, sign)}]}}" if known else ""
    return _number(value, sign) + bounds


def _number(value: float, sign: str) -> str:
    text = f"{100 * value:{sign}z.1f}"
    return f"${text}$" if sign else text


def _notes(rows: list[dict[str, Any]], left: list[str]) -> dict[str, str]:
    """`left`: encoders that were asked for and that no exact search asks this question of."""
    notes = {}
    tests = max((row["n_tests"] or 0 for row in rows), default=0)
    if tests:
        notes[" p"] = (
            rf"$p$: two-sided, both encoders' answers exchanged at random by patient; Holm's correction over {tests:,} {'test' if tests == 1 else 'tests'} "
            "(every two encoders of this question, and each index against exact search)."
        )
    if any(row["differs"] is False for row in rows):
        notes["="] = r"Not distinguishable from the best: corrected $p \geq 0.05$."
    if any(row["n_tests"] is None and not row["is_best"] for row in rows):
        notes[" none"] = f"{DASH} not compared."
    if left:
        notes[" left"] = (
            f"Not in the table, because no exact search of theirs asks this question: {', '.join(map(name, left))}."
        )
    if any(row["random_weights"] for row in rows):
        notes["*"] = "Random weights: an untrained encoder, a control."
    return notes
