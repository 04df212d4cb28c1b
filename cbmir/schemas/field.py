"""One column of a contract, with its comment."""

from __future__ import annotations

import pyarrow as pa


def field(name: str, kind: pa.DataType, comment: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})
