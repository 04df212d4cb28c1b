"""Which gallery images a query must not find: those that share a value with it, and its duplicates."""

from __future__ import annotations

import hashlib

import numpy as np

from cbmir.errors import UserError, nearest
from cbmir.inspecting.alike import components
from cbmir.select import attach, attach_manifest, connect
from cbmir.store import Study

DUPLICATES = (
    "duplicate_group"  # no column of the manifest (unless it has one of that name): what `cbmir manifest check` found
)
_DATASETS_OWN = ("patient_id", "study_id", "volume_id")


def exclusion_codes(study: Study, columns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Ascending manifest keys (n,) and, for each column, a code (n, c) that is equal where the values are; -1: null.

    Null is no value: two images without a patient are not the same patient. Ids are a dataset's own: patient '1' of one
    dataset is not patient '1' of another. `duplicate_group` is one value for all images that are reached from each other by pairs of equal or alike
    images: codes can say that images exclude each other, not that a excludes b and b excludes c, but a not c.
    """
    connection = connect()
    attach_manifest(connection, study)
    have = [row[0] for row in connection.execute("DESCRIBE manifest").fetchall()]
    for column in columns:
        if column not in (*have, DUPLICATES):
            near = nearest(column, [*have, DUPLICATES])
            raise UserError(
                f"--exclude-same {column}: no such column in the manifest; {near + '; ' if near else ''}columns: {', '.join(have)}; or {DUPLICATES}"
            )
    taken = [column for column in columns if column in have]
    ranked = "".join(f", {_rank(column)} AS c{i}" for i, column in enumerate(taken))
    table = connection.sql(f"SELECT image_key{ranked} FROM manifest ORDER BY image_key").to_arrow_table()
    keys = table["image_key"].to_numpy()
    codes = {column: table[f"c{i}"].to_numpy() for i, column in enumerate(taken)}
    if _asks_duplicates(columns, have):
        codes[DUPLICATES] = _codes_of_groups(keys, *_groups(study))
    return keys, np.stack([codes[column] for column in columns], axis=1) if columns else np.zeros(
        (len(keys), 0), np.int64
    )


def exclusion_inputs(study: Study, columns: tuple[str, ...]) -> dict[str, str]:
    """What a search that excludes `columns` is made from, beside the manifest: {} or {'duplicates': digest}."""
    if not _asks_duplicates(columns, study.dataset("manifest").schema.names):
        return {}
    return {"duplicates": _digest(*_groups(study))}


def duplicates_digest(study: Study) -> str | None:
    """Identifies the groups of duplicates that are known now; None where no check has looked at the manifest that is there."""
    return _digest(*_groups(study)) if _checked(study) else None


def _rank(column: str) -> str:
    quoted = '"' + column.replace('"', '""') + '"'
    within = "dataset, " if column in _DATASETS_OWN else ""
    return f"CASE WHEN {quoted} IS NULL THEN -1 ELSE dense_rank() OVER (ORDER BY {within}{quoted}) END"


def _asks_duplicates(columns: tuple[str, ...], have: list[str]) -> bool:
    return DUPLICATES in columns and DUPLICATES not in have


def _checked(study: Study) -> bool:
    run = study.run_of("problems")
    return run is not None and run["inputs"]["manifest"] == study.require("manifest")["fingerprint"]


def _groups(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Images that have a duplicate, equal or alike -> their ascending keys (m,), and the least key of each one's group (m,)."""
    if not _checked(study):
        state = "is older than the manifest" if study.run_of("problems") else "has not been made"
        raise UserError(
            f"--exclude-same {DUPLICATES}: the check for duplicates {state}; make it with: cbmir manifest check --study {study.address}"
        )
    connection = connect()
    attach(connection, "problems", study, study.files("problems"))
    pairs = connection.sql(
        "SELECT DISTINCT image_key, group_id FROM problems WHERE problem IN ('exact_duplicates', 'near_duplicates')"
    ).to_arrow_table()
    keys, leasts = pairs["image_key"].to_numpy(), pairs["group_id"].to_numpy()
    nodes = np.unique(np.concatenate([keys, leasts]))
    return nodes, components(nodes, keys, leasts)


def _codes_of_groups(keys: np.ndarray, nodes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Ascending manifest keys (n,) -> the number of each one's group (n,), -1: it has no duplicate."""
    codes = np.full(len(keys), -1, np.int64)
    codes[np.searchsorted(keys, nodes)] = np.unique(groups, return_inverse=True)[1]
    return codes


def _digest(nodes: np.ndarray, groups: np.ndarray) -> str:
    return hashlib.sha256(nodes.tobytes() + b"/" + groups.tobytes()).hexdigest()[:16]
