"""Columns of text from parts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def spliced(*parts: str | pa.Array) -> pa.Array:
    """Texts and columns (numbers as decimals), one behind the other -> one column of text."""
    texts = [part if isinstance(part, str) else part.cast(pa.string()) for part in parts]
    return pc.binary_join_element_wise(*texts, "")
