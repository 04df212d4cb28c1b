"""Salted hashes in place of ids (keyed BLAKE2b, RFC 7693): nobody without the salt can tell or test whose they were."""

from __future__ import annotations

import hashlib
import secrets

import pyarrow as pa
import pyarrow.compute as pc

from cbmir.errors import UserError
from cbmir.store import Study

SALT_NAME = "salt.hex"  # in the study's directory
_SALT_BYTES = 32


def salt_of(study: Study, salt_file: str | None) -> bytes:
    """The salt from `salt_file`, else the study's own, drawn once and kept beside its datasets."""
    if salt_file:
        try:
            with open(salt_file, encoding="ascii") as file:
                return _parsed(file.read(), salt_file)
        except OSError as error:
            raise UserError(
                f"--salt-file {salt_file}: {error.strerror or error}; expected a file of hex digits"
            ) from None
        except UnicodeDecodeError:
            raise UserError(f"--salt-file {salt_file} is no text; expected {2 * _SALT_BYTES} hex digits") from None
    text = study.read_text(SALT_NAME)
    if text is None:
        text = secrets.token_hex(_SALT_BYTES)
        study.write_bytes(text.encode(), SALT_NAME, mode=0o600)
    return _parsed(text, SALT_NAME)


def _parsed(text: str, name: str) -> bytes:
    try:
        salt = bytes.fromhex(text.strip())
    except ValueError:
        salt = b""
    if not 16 <= len(salt) <= 64:
        raise UserError(f"{name} is no salt; expected 32 to 128 hex digits, e.g. from: openssl rand -hex 32")
    return salt


def salted(column: pa.Array | pa.ChunkedArray, salt: bytes, *, kind: str) -> pa.Array:
    """Text -> 20 hex digits each, nulls stay null. Equal ids of one `kind` become equal hashes; kinds do not meet."""
    encoded = pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    hashes = [_hash(f"{kind}\0{text}", salt) for text in encoded.dictionary.to_pylist()]
    return pa.array(hashes, pa.string()).take(encoded.indices)


def _hash(text: str, salt: bytes) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=salt, digest_size=10).hexdigest()


def deidentified(rows: pa.Table, salt: bytes) -> pa.Table:
    """Rows of a manifest with hashes for patient, study and series, and `<dataset>/<hash>` for volumes and images.

    What stands behind '#' in an image's id, the number of a slice or frame, stays.
    """
    for name in [n for n in ("patient_id", "study_id", "series_id") if n in rows.column_names]:
        rows = _put(rows, name, salted(rows[name], salt, kind=name))
    rows = _put(rows, "volume_id", _within(rows["dataset"], salted(rows["volume_id"], salt, kind="volume_id")))
    ids = rows["image_id"]
    part = pc.struct_field(pc.extract_regex(ids, r"(?P<part>(?:#[0-9]+)?)$"), "part")
    whole = pc.replace_substring_regex(ids, r"#[0-9]+$", "")
    hashed = _within(rows["dataset"], salted(whole, salt, kind="image_id"))
    return _put(rows, "image_id", pc.binary_join_element_wise(hashed, part, ""))


def _within(datasets: pa.ChunkedArray, hashes: pa.Array) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(datasets, hashes, "/")


def _put(rows: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)
