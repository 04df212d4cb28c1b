"""The statements under sql/: found, read, and given just the parameters that each names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from cbmir.errors import UserError, nearest


def sql_directory() -> Path:
    """sql/ inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "sql"


@cache
def read(kind: str, name: str) -> str:
    """Text of sql/<kind>/<name>.sql."""
    path = sql_directory() / kind / f"{name}.sql"
    if not path.exists():
        near = nearest(name, names(kind)) or f"there: {', '.join(names(kind))}"
        raise UserError(f"no sql/{kind}/{name}.sql; {near}")
    return path.read_text()


def names(kind: str) -> list[str]:
    """Stems of the files in sql/<kind>."""
    return sorted(path.stem for path in (sql_directory() / kind).glob("*.sql"))


@cache
def parameters_of(text: str) -> frozenset[str]:
    """Names of the $parameters of a statement."""
    return frozenset(duckdb.extract_statements(text)[0].named_parameters)


def bind(text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Those parameters that the statement names; DuckDB refuses missing and excess ones."""
    return {name: parameters[name] for name in parameters_of(text)}


def create(connection: duckdb.DuckDBPyConnection, table: str, kind: str, name: str, **parameters: Any) -> None:
    """Table `table` from the statement sql/<kind>/<name>.sql."""
    text = read(kind, name)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {text}", bind(text, parameters))


def create_view(connection: duckdb.DuckDBPyConnection, view: str, kind: str, name: str) -> None:
    """View `view` of the statement sql/<kind>/<name>.sql, which has no parameters."""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {read(kind, name)}")
