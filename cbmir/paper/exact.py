"""The exact searches that a table can show."""

from __future__ import annotations

from typing import Any

from cbmir.report.sources import Sources

NO_EXACT = "the study has figures, and none of them of an exact search; expected an exact one; make it with: cbmir search --index exact, and cbmir evaluate"


def standing(sources: Sources, question: int) -> dict[str, dict[str, Any]]:
    """Encoder -> the exact search that stands for it in `question`, whatever name it is stored by."""
    found = [s for s in sources.searches if s["question"] == question and s["turn"] == 1 and s["is_exact"]]
    return {s["encoder"]: s for s in found}
