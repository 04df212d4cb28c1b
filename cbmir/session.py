"""A DuckDB session with every dataset of a study as a view."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb

from cbmir.errors import UserError
from cbmir.schemas import CONTRACTS
from cbmir.select import attach, connect
from cbmir.store import Study, path_name

if TYPE_CHECKING:
    import pandas as pd

DATASETS = (
    "manifest",
    "remarks",
    "image_facts",
    "problems",
    "packed",
    "packed_failures",
    "embeddings",
    "failures",
    "neighbors",
    "query_metrics",
    "metrics",
    "runs",
)
_ENDS = (".quit", ".exit", ".q")
_BY_ENCODER = ("embeddings", "failures")
_BY_INDEX = ("neighbors", "query_metrics")
HELP = ".tables lists the views, .schema VIEW its columns, .quit ends; a statement ends with ';'"


def open_session(study: Study) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """A connection with a view for each finished dataset, and notes on what is unfinished and left out."""
    study.require("manifest")
    connection = connect()
    notes: list[str] = []
    runs = [("manifest", "", "")]
    attach(connection, "manifest", study, study.files("manifest"))
    finished = [stage for stage in study.names("remarks") if study.run_of("remarks", path_name(stage))]
    _union(connection, study, "remarks", ("stage",), [((s,), ("remarks", path_name(s))) for s in finished])
    for dataset in ("image_facts", "problems"):
        if study.run_of(dataset):
            attach(connection, dataset, study, study.files(dataset))
            runs.append((dataset, "", ""))
    notes += _packed(connection, study, runs)
    for dataset in _BY_ENCODER:
        parts = []
        for encoder in study.names(dataset):
            if study.run_of("embeddings", f"encoder={path_name(encoder)}") is None:
                notes.append(f"{dataset} of {encoder} are unfinished and left out; finish them with: cbmir embed")
                continue
            parts.append(((encoder,), (dataset, f"encoder={path_name(encoder)}")))
            runs += [(dataset, encoder, "")] if dataset == "embeddings" else []
        _union(connection, study, dataset, ("encoder",), parts)
    for dataset in _BY_INDEX:
        parts = []
        for encoder in study.names(dataset):
            for index in study.names(dataset, path_name(encoder)):
                if study.run_of(dataset, path_name(encoder), path_name(index)) is None:
                    notes.append(f"{dataset} of {encoder} by {index} are unfinished and left out")
                    continue
                parts.append(((encoder, index), (dataset, path_name(encoder), path_name(index))))
                runs.append((dataset, encoder, index))
        _union(connection, study, dataset, ("encoder", "index"), parts)
    if study.run_of("metrics"):
        attach(connection, "metrics", study, study.files("metrics"))
        runs.append(("metrics", "", ""))
    for encoder in study.names("index"):
        runs += [("index", encoder, index) for index in study.names("index", path_name(encoder))]
    _runs_view(connection, study, runs)
    return connection, notes


def _packed(connection: duckdb.DuckDBPyConnection, study: Study, runs: list[tuple[str, str, str]]) -> list[str]:
    """Views packed and packed_failures, which have one run.json -> notes on what is unfinished."""
    if study.run_of("packed") is None:
        return (
            ["packed images are unfinished and left out; finish them with: cbmir pack"]
            if study.exists("packed")
            else []
        )
    for dataset in ("packed", "packed_failures"):
        files = study.files(dataset)
        if files:
            attach(connection, dataset, study, files)
        else:
            connection.register("_no_" + dataset, CONTRACTS[dataset].empty_table())
            connection.execute(f"CREATE VIEW {dataset} AS SELECT * FROM _no_{dataset}")
    runs.append(("packed", "", ""))
    return []


def _union(connection, study: Study, view: str, names: tuple[str, ...], parts: list) -> None:
    """View over the files of several encoders or indexes, with their names as columns."""
    selects = []
    for i, (values, address) in enumerate(parts):
        files = study.files(*address)
        if not files:
            continue
        attach(connection, f"_{view}_{i}", study, files)
        columns = ", ".join(f'{_quoted(value)} AS "{name}"' for name, value in zip(names, values, strict=True))
        selects.append(f"SELECT {columns}, * FROM _{view}_{i}")
    if selects:
        connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(selects)}")
    elif view == "failures":  # none is good news, and still a table
        connection.execute(
            "CREATE VIEW failures AS SELECT '' AS encoder, 0::BIGINT AS image_key, '' AS uri, '' AS stage, '' AS error WHERE false"
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _runs_view(connection, study: Study, runs: list[tuple[str, str, str]]) -> None:
    """runs: what each dataset's run.json says, one row a dataset."""
    import pyarrow as pa

    rows = []
    for dataset, encoder, index in runs:
        inner = (
            [f"encoder={path_name(encoder)}"]
            if dataset == "embeddings"
            else [path_name(n) for n in (encoder, index) if n]
        )
        run = study.run_of(dataset, *inner) or {}
        rows.append(
            {
                "dataset": dataset,
                "encoder": encoder,
                "index": index,
                "rows": run.get("rows"),
                "finished": run.get("finished"),
                "random_weights": run.get("random_weights"),
                "parameters": str(run.get("parameters")),
                "fingerprint": run.get("fingerprint"),
            }
        )
    connection.register("_runs", pa.Table.from_pylist(rows))
    connection.execute("CREATE VIEW runs AS SELECT * FROM _runs")


def ask(study: Study, statement: str | None, *, csv: str | None = None, parquet: str | None = None) -> None:
    """One statement, printed or saved; without one, a session that reads statements from the terminal or a pipe."""
    connection, notes = open_session(study)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if statement is None and (csv or parquet):
        raise UserError(
            '--csv and --parquet save one statement; expected cbmir sql --study DIR "SELECT ..." --csv FILE'
        )
    if statement is not None:
        _answer(connection, statement, csv=csv, parquet=parquet)
    elif sys.stdin.isatty():
        _converse(connection)
    else:
        for statement in _statements(connection, sys.stdin.read()):
            _answer(connection, statement)


def _statements(connection, text: str) -> list[str]:
    try:
        return [part.query for part in connection.extract_statements(text)]
    except duckdb.Error as error:
        raise UserError(" ".join(str(error).split("\n\n")[0].split())) from None


def frame(study: Study, statement: str) -> pd.DataFrame:
    """The result of one statement as a pandas DataFrame; of one that has none, an empty one."""
    import pandas as pd

    connection, _ = open_session(study)
    with _explained(connection):
        relation = connection.sql(statement)
        return pd.DataFrame() if relation is None else relation.df()


def _answer(connection, statement: str, *, csv: str | None = None, parquet: str | None = None) -> None:
    with _explained(connection):
        relation = connection.sql(statement)
        if relation is None:
            return
        if csv:
            relation.write_csv(csv)
        if parquet:
            relation.write_parquet(parquet)
        if not csv and not parquet:
            width = shutil.get_terminal_size((200, 24)).columns
            _readable(relation).show(max_width=max(width, 80), max_rows=1_000)


@contextlib.contextmanager
def _explained(connection) -> Iterator[None]:
    """DuckDB's complaints in one line, with the views that there are."""
    try:
        yield
    except duckdb.Error as error:
        first = " ".join(str(error).split("\n\n")[0].split())
        raise UserError(f"{first}; views: {', '.join(_views(connection))}") from None


def _readable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Bytes by their number: a packed image would fill the terminal."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in relation.columns]
    blobs = [name for name, kind in zip(quoted, relation.types, strict=True) if kind == "BLOB"]
    counted = ", ".join(f"octet_length({name})::TEXT || ' bytes' AS {name}" for name in blobs)
    return relation.project(f"* REPLACE ({counted})") if blobs else relation


def _views(connection) -> list[str]:
    found = {row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    return [name for name in DATASETS if name in found]


def _converse(connection) -> None:
    """Statements from a terminal until .quit or end of input; an error is said and the session goes on."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  arrow keys and history, where the platform has it
    print(f"views: {', '.join(_views(connection))}\n{HELP}")
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
        typed += line + "\n"
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
        print("\n".join(_views(connection)))
    elif words[0] == ".schema" and len(words) == 2 and words[1] in _views(connection):
        connection.sql(f"DESCRIBE {words[1]}").show(max_rows=200)
    else:
        print(HELP)
    return False
