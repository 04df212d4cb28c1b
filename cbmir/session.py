"""`cbmir sql`: statements over the views of a study, from the command line, a pipe or a terminal."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import duckdb

from cbmir.errors import UserError
from cbmir.schemas import CONTRACTS, PUBLISHED
from cbmir.stages import MADE_BY
from cbmir.store import Study
from cbmir.views import VIEWS, catalog, listed, open_views

if TYPE_CHECKING:
    import pandas as pd

_ENDS = (".quit", ".exit", ".q")
_DOTS = (".tables", ".schema", ".help", *_ENDS)
_SILENT = (
    duckdb.StatementType.CREATE,
    duckdb.StatementType.DROP,
    duckdb.StatementType.SET,
)  # answer with an empty table
HELP = ".tables lists the views, .schema VIEW its columns and what they mean, .quit ends; a statement ends with ';'"


def ask(study: Study, statement: str | None, *, csv: str | None = None, parquet: str | None = None) -> None:
    """One statement, printed or saved; without one, a session that reads statements from the terminal or a pipe."""
    if statement is None and (csv or parquet):
        raise UserError(
            '--csv and --parquet save one statement; expected cbmir sql --study DIR "SELECT ..." --csv FILE'
        )
    connection, notes = open_views(study)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if statement is not None:
        _answer(connection, statement, csv=csv, parquet=parquet)
    elif sys.stdin.isatty():
        _converse(connection)
    else:
        _recite(connection, sys.stdin.read())


def frame(study: Study, statement: str) -> pd.DataFrame:
    """The result of one statement as a pandas DataFrame; of one that has none, an empty one. Lists of text are lists."""
    import pandas as pd

    connection, _ = open_views(study)
    with _explained(connection):
        relation = connection.sql(statement)
        if relation is None:
            return pd.DataFrame()
        found = relation.df()
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if kind == "VARCHAR[]":
            found[name] = [value.tolist() if hasattr(value, "tolist") else None for value in found[name]]  # NULL: an NA
    return found


def _answer(connection, text: str, *, csv: str | None = None, parquet: str | None = None) -> None:
    """One statement or several, each printed or saved."""
    with _explained(connection):
        statements = connection.extract_statements(text)
        if (csv or parquet) and len(statements) != 1:
            raise UserError(f"--csv and --parquet save one statement; found {len(statements)}")
        for statement in statements:
            relation = connection.sql(statement.query)
            if relation is None or statement.type in _SILENT:
                continue
            if csv:
                relation.write_csv(csv)
            if parquet:
                relation.write_parquet(parquet)
            if not csv and not parquet:
                width = shutil.get_terminal_size((200, 24)).columns
                _readable(relation).show(max_width=max(width, 80), max_rows=1_000)


@contextlib.contextmanager
def _explained(connection) -> Iterator[None]:
    """DuckDB's complaints in one line, with the views that there are, or what makes the one that is missing."""
    try:
        yield
    except duckdb.Error as error:
        first = " ".join(str(error).split("\n\n")[0].split())
        missing = re.search(r"Table with name (\w+) does not exist", first)
        if missing and missing.group(1) in MADE_BY and missing.group(1) in VIEWS:
            name = missing.group(1)
            raise UserError(f"{name}: not in this study; make it with: {MADE_BY[name]}") from None
        raise UserError(f"{first}; views: {', '.join(listed(connection))}") from None


def _readable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Bytes by their number: a packed image would fill the terminal."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in relation.columns]
    blobs = [name for name, kind in zip(quoted, relation.types, strict=True) if kind == "BLOB"]
    counted = ", ".join(f"octet_length({name})::TEXT || ' bytes' AS {name}" for name in blobs)
    return relation.project(f"* REPLACE ({counted})") if blobs else relation


def _recite(connection, text: str) -> None:
    """What came through a pipe, to its end or the first error; nothing at all: the views."""
    if not text.strip():
        print("\n".join(catalog(connection)))
    for piece in _pieces(text.splitlines()):
        if not piece.startswith("."):
            _answer(connection, piece)
        elif _dot_command(connection, piece.split()):
            return


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Lines -> dot commands by themselves, and what stands between them."""
    held: list[str] = []
    for line in lines:
        if line.split()[:1] and line.split()[0] in _DOTS:
            yield "\n".join(held)
            yield line.strip()
            held = []
        else:
            held.append(line)
    yield "\n".join(held)


def _converse(connection) -> None:
    """Statements from a terminal until .quit or end of input; an error is said and the session goes on."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  arrow keys and history, where the platform has it
    print("\n".join([*catalog(connection), "", HELP]))
    typed = ""
    while True:
        try:
            line = input("cbmir> " if not typed else "  ...> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # gives up the statement, not the session
            typed = ""
            print()
            continue
        if line.strip().startswith(".") and (not typed or line.split()[0] in _ENDS):
            if _dot_command(connection, line.split()):
                return
            continue
        typed += line + "\n" if typed or line.strip() else ""
        if line.rstrip().endswith(";"):
            try:
                _answer(connection, typed)
            except UserError as error:
                print(error, file=sys.stderr)
            typed = ""


def _dot_command(connection, words: list[str]) -> bool:
    """Returns whether the session ends."""
    if words[0] in _ENDS:
        return True
    if words[0] == ".tables":
        print("\n".join(catalog(connection)))
    elif words[0] == ".schema" and len(words) == 2 and words[1] in listed(connection):
        print("\n".join(_columns(connection, words[1])))
    elif words[0] == ".schema":
        print(f"expected .schema VIEW, one of: {', '.join(listed(connection))}")
    else:
        print(HELP)
    return False


def _columns(connection, view: str) -> Iterator[str]:
    """A line a column: name, type, and what the contract says of it."""
    relation = connection.table(view)
    contract = PUBLISHED if view == "published" else CONTRACTS.get(view)
    for name, kind in zip(relation.columns, relation.types, strict=True):
        known = contract is not None and name in contract.names
        comment = contract.field(name).metadata[b"comment"].decode() if known else ""
        yield f"{name:<16} {kind!s:<12} {comment}".rstrip()
