"""The part of an inspection that runs in Ray's tasks: look at a block of images and write what was found."""

from __future__ import annotations

import pyarrow as pa

from cbmir.images.facts import as_columns, facts
from cbmir.schemas import IMAGE_FACTS, block_name, check
from cbmir.store import Study


def look(block: pa.Table, *, address: str) -> pa.Table:
    """(image_key, uri) -> one file of image_facts, whole or not at all; returns (rows, failed) for whoever counts."""
    found = [facts(uri) for uri in block["uri"].to_pylist()]
    columns = {"image_key": block["image_key"], "uri": block["uri"], **as_columns(found)}
    table = pa.table([pa.chunked_array([columns[f.name]] if not isinstance(columns[f.name], pa.ChunkedArray) else columns[f.name].chunks, f.type) for f in IMAGE_FACTS], schema=IMAGE_FACTS)  # fmt: skip
    Study(address).write_table(check(table, "image_facts"), "image_facts", block_name(block["image_key"]))
    return pa.table({"rows": [len(found)], "failed": [sum(fact.stage is not None for fact in found)]})
