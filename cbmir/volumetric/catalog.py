"""The manifest of volumes, made of the manifest of their slices."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from cbmir.datasets.manifest import keyed
from cbmir.errors import UserError
from cbmir.schemas import MANIFEST
from cbmir.select import attach_manifest, connect
from cbmir.sql_files import read
from cbmir.store import Study, run_record
from cbmir.volumetric.place import STAGE, volumes_of

_COUNTS = ("n_splits", "n_patients")


def write_catalog(slices: Study) -> tuple[Study, dict, bool]:
    """Publish the manifest of the volumes -> (their study, its run.json, whether it was written now)."""
    inputs = {"manifest": slices.require("manifest")["fingerprint"]}
    volumes = volumes_of(slices)
    before = volumes.run_of("manifest")
    if before and before["inputs"] == inputs:
        return volumes, before, False
    connection = connect()
    attach_manifest(connection, slices)
    table = connection.sql(read("volumes", "manifest")).to_arrow_table()
    if table.num_rows == 0:
        raise UserError(
            f"no image of {slices.address} is a slice: none has a volume_id; expected a manifest of volumes, from the sources dicom, nifti, medmnist "
            "(3D) or a table with the columns volume_id and slice"
        )
    _refuse_mixed(table)
    table = keyed(_joined(table.drop_columns(list(_COUNTS)), _further(connection)))
    alone = connection.execute("SELECT count(*) FROM manifest WHERE volume_id IS NULL").fetchall()[0][0]
    run = run_record(STAGE, parameters={}, inputs=inputs, rows=table.num_rows, images_without_volume=alone)
    order = slices.require("manifest").get("label_order")
    run |= {"label_order": order} if order else {}
    with volumes.publishing("manifest") as out:
        out.write_table(table, "manifest.parquet", "manifest")
        out.run = run
    return volumes, run, True


def _refuse_mixed(table: pa.Table) -> None:
    """A volume in two splits would find itself; one of two patients is none."""
    for column, what, do in (
        ("n_splits", "splits", "give all slices of a volume the split of the volume"),
        ("n_patients", "patients", "give each patient's slices a volume_id of their own"),
    ):
        wrong = [row for row in table.select(["image_id", column]).to_pylist() if row[column] > 1]
        if wrong:
            volumes = f"{len(wrong):,} volumes have" if len(wrong) > 1 else "a volume has"
            raise UserError(
                f"{volumes} slices in several {what}, the first {wrong[0]['image_id']!r} in {wrong[0][column]}; expected one; {do}, in the manifest"
            )


def _further(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Columns beyond the contract (age, sex ...), with the dataset and volume that they are of; null where slices differ."""
    names = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall() if row[0] not in MANIFEST.names]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names if name != "n_slices"]
    common = "".join(
        f", CASE WHEN count({name}) = count(*) AND count(DISTINCT {name}) = 1 THEN any_value({name}) END AS {name}"
        for name in quoted
    )
    return connection.sql(
        f"SELECT dataset, volume_id{common} FROM manifest WHERE volume_id IS NOT NULL GROUP BY dataset, volume_id"
    ).to_arrow_table()


def _joined(table: pa.Table, further: pa.Table) -> pa.Table:
    connection = connect()
    connection.register("volumes", table)
    connection.register("further", further)
    return connection.sql("FROM volumes JOIN further USING (dataset, volume_id) ORDER BY image_id").to_arrow_table()
