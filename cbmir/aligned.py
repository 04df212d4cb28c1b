"""Tables and numbers as text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], *, left: Sequence[int] = ()) -> str:
    """Lines of cells -> a table with columns as wide as their widest cell, to the right but for those numbered in `left`."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i in left else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float | None, digits: int = 3, *, sign: str = "") -> str:
    """'1,234.500'; '-' for what is not known. sign: '+' writes the plus, too."""
    return "-" if value is None else f"{value + 0.0:{sign},.{digits}f}"  # + 0.0: no minus before a zero


def with_interval(
    value: float | None, low: float | None, high: float | None, *, digits: int = 3, sign: str = ""
) -> str:
    """'-0.011 (-0.129 to +0.097)'; without an interval the value alone."""
    texts = [number(each, digits, sign=sign) for each in (value, low, high)]
    return texts[0] if value is None or low is None else f"{texts[0]} ({texts[1]} to {texts[2]})"


def figure_name(metric: str, k: int | None) -> str:
    """('precision_at_k', 5) -> 'P@5'; ('recall_at_k', 1) -> 'recall@1'; ('average_precision', None) -> 'average_precision'."""
    if k is None:
        return metric
    return f"{'P' if metric == 'precision_at_k' else metric.removesuffix('_at_k')}@{k}"
