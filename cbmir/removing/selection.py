"""Which images a removal is of: by a predicate, by a list of ids, or those that the manifest no longer has."""

from __future__ import annotations

import hashlib
from typing import Any

import duckdb
import pyarrow as pa

from cbmir.errors import UserError
from cbmir.removing.figures import made_by
from cbmir.removing.journal import Journal
from cbmir.removing.layout import ROWS, places
from cbmir.removing.settle import fingerprints
from cbmir.schemas import image_key
from cbmir.select import attach, attach_manifest, connect, select_where
from cbmir.store import Study

_KEYS = pa.schema([("image_key", pa.int64())])
_LEAST = 6  # letters of a patient's or study's id that can be told from any other number in a remark


def asked(where: str | None, ids: str | None, orphans: bool) -> dict[str, Any]:
    """A selection as the journal knows it again."""
    digest = hashlib.sha256("\n".join(read_ids(ids)).encode()).hexdigest() if ids else None
    return {"where": where, "ids": digest, "orphans": orphans}


def read_ids(file: str) -> list[str]:
    """The image ids of a text file, one a line."""
    try:
        with open(file, encoding="utf-8") as lines:
            found = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--ids {file}: {getattr(error, 'strerror', None) or error}; expected a text file with one image_id a line"
        ) from None
    if not found:
        raise UserError(f"--ids {file} is empty; expected one image_id a line")
    return found


def of_predicate(study: Study, where: str) -> Journal:
    """Images of the manifest; UserError where the predicate selects none: a wrong one must not pass for a removal."""
    connection = connect()
    attach_manifest(connection, study)
    keys = select_where(connection, where, "image_key", role="where")
    if keys.num_rows == 0:
        raise UserError(f"--where {where!r} selects none of the manifest's images; nothing was removed")
    return _journal(study, connection, keys, asked(where, None, False), [])


def of_list(study: Study, file: str) -> Journal:
    """Images by their ids, those included that the manifest no longer has."""
    ids = read_ids(file)
    connection = connect()
    attach_manifest(connection, study)
    keys = pa.table([pa.array(map(image_key, ids), pa.int64())], schema=_KEYS)
    return _journal(study, connection, keys, asked(None, file, False), ids)


def of_orphans(study: Study) -> Journal:
    """Images of any dataset that the manifest does not have."""
    connection = connect()
    attach_manifest(connection, study)
    connection.execute("CREATE TEMP TABLE orphans (image_key BIGINT, uri TEXT)")
    for parts in places(study, ROWS):
        files = study.files(*parts)
        if not files or parts == ("manifest",):
            continue
        has_uri = "uri" in study.dataset(*parts).schema.names
        attach(connection, "held", study, files, columns=["image_key", *(["uri"] if has_uri else [])])
        uri = "uri" if has_uri else "NULL"
        connection.execute(
            f"INSERT INTO orphans SELECT image_key, {uri} FROM held ANTI JOIN manifest USING (image_key)"
        )
    keys = connection.sql("SELECT DISTINCT image_key FROM orphans ORDER BY image_key").to_arrow_table()
    names = connection.execute(
        "SELECT DISTINCT uri FROM orphans WHERE uri IS NOT NULL AND uri NOT IN (SELECT uri FROM manifest) ORDER BY uri"
    ).fetchall()
    return _journal(study, connection, keys, asked(None, None, True), [name for (name,) in names])


def _journal(
    study: Study, connection: duckdb.DuckDBPyConnection, keys: pa.Table, selection: dict, names: list[str]
) -> Journal:
    connection.register("wanted", keys)
    connection.execute("CREATE TEMP VIEW gone AS SELECT * FROM manifest SEMI JOIN wanted USING (image_key)")
    connection.execute("CREATE TEMP VIEW kept AS SELECT * FROM manifest ANTI JOIN wanted USING (image_key)")
    images, patients = connection.execute(
        "SELECT count(*), count(DISTINCT (dataset, patient_id)) FILTER (WHERE patient_id IS NOT NULL) FROM gone"
    ).fetchall()[0]
    if images and connection.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]:
        raise UserError(
            f"this selects all {images:,} images of the study; expected a part of them; delete the directory {study.address} instead"
        )
    ids = _column(connection, "SELECT image_id FROM gone")
    addresses = _column(connection, "SELECT uri FROM gone")
    return Journal(
        selection=selection,
        keys=keys["image_key"].to_pylist(),
        names=sorted({*names, *ids, *_unshared(connection)}),
        loose_names=sorted(_loose(connection)),
        addresses=addresses,
        images=images,
        patients=patients or None,
        before=fingerprints(study),
        again=made_by(study),
    )


def _unshared(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Addresses, and the files that they lie in, that no image has which stays: slices of a volume share its file."""
    file = "regexp_replace(uri, '#[^/]*$', '')"
    return _column(
        connection,
        f"SELECT uri FROM gone UNION SELECT {file} FROM gone EXCEPT (SELECT uri FROM kept UNION SELECT {file} FROM kept)",
    )


def _loose(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """What only remarks are searched for, where a row too many does no harm."""
    columns = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall()]
    said = set(
        _column(connection, "SELECT image_id[len(dataset) + 2:] FROM gone WHERE starts_with(image_id, dataset || '/')")
    )
    for name in [name for name in ("filepath",) if name in columns]:
        said |= set(_column(connection, f"SELECT {name}::TEXT FROM gone EXCEPT SELECT {name}::TEXT FROM kept"))
    for name in ("patient_id", "study_id"):
        said |= set(
            _column(connection, f"SELECT {name} FROM gone WHERE len({name}) >= {_LEAST} EXCEPT SELECT {name} FROM kept")
        )
    return said - {None, ""}


def _column(connection: duckdb.DuckDBPyConnection, statement: str) -> list[str]:
    return [row[0] for row in connection.execute(statement).fetchall()]
