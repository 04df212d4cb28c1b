"""Exactly one embedding or failure a manifest row: counted, and mended where a killed run wrote a row twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cbmir.select import Ledger, attach_done, attach_ledger, attach_manifest, connect, embedded_by
from cbmir.store import Study


@dataclass(frozen=True)
class Account:
    """What became of a manifest's rows for one encoder; the three counts add up to the manifest."""

    encoder: str
    embedded: int
    failed: int
    missing: int

    @property
    def total(self) -> int:
        return self.embedded + self.failed + self.missing

    def line(self) -> str:
        failed = f"{self.failed:,} failed" + (": see failures" if self.failed else "")
        missing = f", {self.missing:,} still to do" if self.missing else ""
        return f"{self.encoder}: {self.embedded:,} embedded, {failed}{missing}"


def account(study: Study, encoder: str) -> Account:
    """Count the manifest's rows by what `encoder` has of them."""
    return Account(encoder, *counted(study, embedded_by(encoder)))


def counted(study: Study, ledger: Ledger) -> tuple[int, int, int]:
    """How many rows of the manifest a ledger says to have succeeded, to have failed, and nothing of."""
    connection = connect()
    attach_manifest(connection, study)
    attach_ledger(connection, "done", study, ledger)
    return connection.execute(
        "SELECT count(*) FILTER (WHERE failed = false), count(*) FILTER (WHERE failed), count(*) FILTER (WHERE failed IS NULL)"
        " FROM manifest LEFT JOIN (SELECT image_key, bool_and(failed) AS failed FROM done GROUP BY image_key) USING (image_key)"
    ).fetchall()[0]


def orphans(study: Study, ledger: Ledger) -> int:
    """How many images a ledger knows that the manifest no longer has."""
    connection = connect()
    attach_manifest(connection, study)
    attach_ledger(connection, "done", study, ledger)
    return connection.execute(
        "SELECT count(DISTINCT image_key) FROM done ANTI JOIN manifest USING (image_key)"
    ).fetchall()[0][0]


def orphans_line(study: Study, what: str, ledger: Ledger) -> str | None:
    """What a person is told of a ledger's orphans, None where there are none."""
    count = orphans(study, ledger)
    if count == 0:
        return None
    return (
        f"{what}: {count:,} more images that the manifest no longer has, kept in case they come back; "
        f"remove them with: cbmir remove --study {study.address} --orphans"
    )


def embedded_digest(study: Study, encoder: str) -> str:
    """SHA-256 of the manifest's keys that have a vector: a retried failure makes other embeddings, and what was searched in them is outdated."""
    connection = connect()
    attach_manifest(connection, study)
    attach_done(connection, "done", study, encoder)
    keys = connection.sql(
        "SELECT image_key FROM done SEMI JOIN manifest USING (image_key) WHERE NOT failed ORDER BY image_key"
    ).to_arrow_table()
    return hashlib.sha256(keys["image_key"].to_numpy().tobytes()).hexdigest()


def remove_doubles(study: Study, ledger: Ledger) -> int:
    """Drop rows that stand twice, a success being kept before a failure -> how many were dropped.

    They come about where a task of a killed run still wrote while the next run was reading what was done.
    """
    doubled = pa.array(_doubled_keys(study, ledger), pa.int64())
    if len(doubled) == 0:
        return 0
    seen: set[int] = set()
    dropped = 0
    for parts in ledger:
        for path in study.files(*parts):
            keys = pq.read_table(path, filesystem=study.fs, columns=["image_key"])["image_key"]
            suspects = keys.filter(pc.is_in(keys, doubled)).to_pylist()
            again = [key for key in suspects if key in seen]
            seen.update(suspects)
            if again:
                _rewrite_without(study, parts, path, again)
                dropped += len(again)
    return dropped


def _doubled_keys(study: Study, ledger: Ledger) -> list[int]:
    connection = connect()
    attach_ledger(connection, "done", study, ledger)
    rows = connection.execute("SELECT image_key FROM done GROUP BY image_key HAVING count(*) > 1").fetchall()
    return [row[0] for row in rows]


def _rewrite_without(study: Study, parts: tuple[str, ...], path: str, keys: list[int]) -> None:
    table = pq.read_table(path, filesystem=study.fs)
    kept = table.filter(pc.invert(pc.is_in(table["image_key"], pa.array(keys))))
    name = path.rsplit("/", 1)[1]
    if kept.num_rows:
        study.write_table(kept, *parts, name)
    else:
        study.delete(*parts, name)
