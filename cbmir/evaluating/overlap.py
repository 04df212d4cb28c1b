"""Patients on both sides of a search: their images are alike, and what is measured is the patient as well."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from cbmir.errors import UserError
from cbmir.select import attach_manifest, connect, select_where
from cbmir.sql_files import create
from cbmir.store import Study


def refuse_overlap(
    study: Study, *, gallery: str, queries: str, exclude_same: Sequence[str], where: str = "the searches"
) -> None:
    """UserError where a search with these predicates would have patients on both sides and not pass over them; where: its name for people."""
    connection = connect()
    attach_manifest(connection, study)
    for table, predicate in (("query_keys", queries), ("gallery_keys", gallery)):
        connection.register(table, select_where(connection, predicate, "image_key", role=table))
    refuse_shared_patients(connection, where, exclude_same)


def refuse_shared_patients(connection: duckdb.DuckDBPyConnection, where: str, exclude_same: Sequence[str]) -> None:
    """UserError where sql/checks/patients_on_both_sides.sql finds any, by the tables manifest, query_keys and gallery_keys."""
    excluded = "patient_id" in exclude_same
    create(connection, "shared_patients", "checks", "patients_on_both_sides", patients_excluded=excluded)
    count, row = connection.execute(
        "SELECT count(*), min_by(shared_patients, query_key) FROM shared_patients"
    ).fetchall()[0]
    if count:
        raise UserError(
            f"{count:,} {'patients have' if count > 1 else 'patient has'} queries and gallery images in {where}, one of them with query "
            f"{row['query_key']} and gallery image {row['neighbor_key']}; expected none, because images of one patient are alike; search "
            "with --exclude-same patient_id, or go on with --allow-overlap"
        )
