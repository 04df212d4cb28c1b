"""Numbers and names as the charts, their tables and their sentences say them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

METRICS = {"precision_at_k": "P@{k}", "ann_recall": "ANN recall@{k}", "average_precision": "mAP",
           "average_precision_over_hits_at_k": "mAP@{k}", "recall_at_k": "recall@{k}",
           "hit_rate_at_k": "hit rate@{k}", "ndcg_at_k": "nDCG@{k}"}  # fmt: skip
MODELS = {"power": "the power law", "logarithmic": "the logarithmic curve"}


def metric(row: Row) -> str:
    """{'metric': 'precision_at_k', 'k': 1} -> 'P@1'."""
    known = METRICS.get(row.get("metric", "precision_at_k"))
    return known.format(k=row["k"]) if known else row["metric"].replace("_at_k", f"@{row['k']}").replace("_", " ")


def letter(question: int) -> str:
    """1 -> 'A', 26 -> 'Z', 27 -> 'A2'."""
    turn, place = divmod(question - 1, 26)
    return chr(ord("A") + place) + (str(turn + 1) if turn else "")


def of_question(rows: list[Row]) -> str:
    """'question A' where the study's searches ask several questions, of which the rows answer one; else ''."""
    return f"question {letter(rows[0]['question'])}" if rows[0]["questions"] > 1 else ""


def by_search(row: Row) -> str:
    """'pixels32' for its exact search, else 'pixels32 (hnsw)'."""
    return row["encoder"] + (f" ({row['index']})" if not row["is_exact"] else "")


def share(value: float | None) -> str:
    """0.6234 -> '0.623'; None -> '–'."""
    return "–" if value is None else f"{value:.3f}"


def brief(value: float) -> str:
    """0.6234 -> '0.62', for sentences."""
    return f"{value:.2f}"


def number(value: float | int | None) -> str:
    """A quantity with three digits that count: 0.01234 -> '0.0123', 123456 -> '123,456', 12.0 -> '12'."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def size(images: int) -> str:
    """1000 -> '1k', 1600000 -> '1.6M', for axes."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if images >= unit:
            return f"{images / unit:.3g}{letter}"
    return f"{images:g}"


def short(name: str, letters: int) -> str:
    """A long name by its end, which tells it from others: 'XR/chest/Nodule' -> '…Nodule'."""
    return name if len(name) <= letters else "…" + name[1 - letters :]


def several(words: Iterable[str]) -> str:
    """['a', 'b', 'c'] -> 'a, b and c'."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def went(first: float, last: float) -> str:
    """'grows', 'falls' or 'stays near', by the numbers as a sentence shows them."""
    change = float(brief(last)) - float(brief(first))
    return "grows" if change > 0.004 else "falls" if change < -0.004 else "stays near"
