"""The order of a source's label columns, carried with its rows to the manifest's run.json."""

from __future__ import annotations

import json

import pyarrow as pa

_KEY = b"label_order"


def with_label_order(table: pa.Table, order: list[str]) -> pa.Table:
    """The same rows, with the order of their label columns in the schema's metadata."""
    return table.replace_schema_metadata({_KEY: json.dumps(order)})


def label_order(table: pa.Table) -> list[str]:
    """What `with_label_order` put there; empty where the source has no such columns."""
    return json.loads((table.schema.metadata or {}).get(_KEY, b"[]"))
