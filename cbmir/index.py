"""Stage: embeddings -> USearch index of a gallery."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cbmir.errors import UserError, nearest
from cbmir.progress import Progress
from cbmir.select import keys_where
from cbmir.store import Study, changed_parameter, path_name, run_record
from cbmir.vectors import Vectors, find_encoder

DTYPES = ("f32", "f16", "bf16", "i8")
SHARD = "shard-00000.usearch"
FIRST_ALONE = (
    1_000  # vectors added by one thread: threads that add to an almost empty graph leave nodes that no walk reaches
)


@dataclass(frozen=True)
class IndexOptions:
    """What decides an index; all of it stands in its run.json."""

    gallery: str = "split = 'train'"
    dtype: str = "bf16"
    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int = 256
    overwrite: bool = False

    def refuse_nonsense(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"--dtype {self.dtype}; expected one of: {', '.join(DTYPES)}")
        for name, least in (("connectivity", 2), ("expansion_add", 1), ("expansion_search", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}; expected {least} or more")


def build_index(study: Study, encoder: str, name: str, options: IndexOptions) -> tuple[dict[str, Any], bool]:
    """Build index `name` of one encoder's gallery -> (its run.json, whether it was built now).

    Zero vectors have no direction and stay out of the graph (counted in run.json); exact search ranks them at
    distance 1. An index of that name with other parameters is refused unless `overwrite`; one that is older than the
    embeddings or the manifest is rebuilt.
    """
    options.refuse_nonsense()
    refuse_bad_name(name)
    encoder = find_encoder(study, encoder)
    vectors = Vectors(study, encoder)
    parameters = {key: value for key, value in asdict(options).items() if key != "overwrite"} | {"metric": "cos"}
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    draft = run_record("index", parameters=parameters, inputs=inputs, rows=0)
    target = ("index", path_name(encoder), path_name(name))
    before = study.run_of(*target)
    if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
        return before, False
    changed = changed_parameter(before, draft) if before else None
    if changed and not options.overwrite:
        raise UserError(
            f"index {name} of {encoder} was built otherwise ({changed}); use another name, or --overwrite to rebuild it"
        )
    keys = vectors.keys(keys_where(study, options.gallery, role="gallery")["image_key"].to_numpy())
    if len(keys) == 0:
        raise UserError(
            f"the gallery is empty: none of the images of {options.gallery} was embedded by {encoder}; see failures"
        )
    with study.publishing(*target) as out:
        began = time.monotonic()
        index, zeros = _fill(vectors, keys, options)
        path = out.local_path(SHARD)
        index.save(path)
        out.upload(path, SHARD)
        out.run = draft | {
            "rows": len(index),
            "zero_vectors": zeros,
            "dim": vectors.dim,
            "size_bytes": int(index.serialized_length),
            "seconds": round(time.monotonic() - began, 2),
        }
    return out.run, True


def refuse_bad_name(name: str) -> None:
    """An index's name is part of a path, and 'exact' is taken."""
    if name == "exact" or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise UserError(
            f"--index {name}: not a name for an index; expected letters, digits, '.', '_', '-', and not 'exact'"
        )


def _fill(vectors: Vectors, keys: np.ndarray, options: IndexOptions):
    from usearch.index import Index

    index = Index(
        ndim=vectors.dim,
        metric="cos",
        dtype=options.dtype,  # USearch's own default depends on the processor
        connectivity=options.connectivity,
        expansion_add=options.expansion_add,
        expansion_search=options.expansion_search,
    )
    zeros = 0
    with Progress("index", len(keys), unit="vectors") as progress:
        for tile_keys, tile in vectors.tiles(keys, rows=4_096):
            present = np.einsum("ij,ij->i", tile, tile) > 0
            zeros += int((~present).sum())
            tile_keys, tile = tile_keys[present].astype(np.uint64), np.ascontiguousarray(tile[present])
            alone = max(0, min(len(tile), FIRST_ALONE - len(index)))
            for rows, threads in ((slice(0, alone), 1), (slice(alone, None), 0)):
                if len(tile[rows]):
                    index.add(tile_keys[rows], tile[rows], threads=threads)
            progress.update(len(index) + zeros)
    if len(index) + zeros != len(keys):
        raise RuntimeError(f"the index holds {len(index):,} of {len(keys) - zeros:,} vectors")
    return index, zeros


def open_index(study: Study, encoder: str, name: str):
    """A finished index, memory-mapped where the study is local -> (usearch Index, run.json).

    Refuses one that is older than the embeddings.
    """
    from usearch.index import Index

    names = study.names("index", path_name(encoder))
    if name not in names:
        near = nearest(name, [*names, "exact"]) or f"there: {', '.join([*names, 'exact'])}"
        raise UserError(
            f"no index '{name}' of {encoder} in the study; {near}; build it with: cbmir index --study {study.address} --encoder {encoder} --index {name}"
        )
    run = study.require("index", path_name(encoder), path_name(name))
    if run["inputs"]["embeddings"] != Vectors(study, encoder).run["fingerprint"]:
        raise UserError(
            f"index {name} of {encoder} is older than the embeddings; rebuild it with: cbmir index --study {study.address} --encoder {encoder} --index {name}"
        )
    path = study.path("index", path_name(encoder), path_name(name), SHARD)
    index = Index(
        ndim=run["dim"], metric="cos", dtype=run["parameters"]["dtype"], connectivity=run["parameters"]["connectivity"]
    )
    try:
        if study.is_local:
            index.view(path)
        else:
            with study.fs.open_input_stream(path) as stream:
                index.load(stream.read())
    except (RuntimeError, ValueError, OSError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(f"index {name} of {encoder} cannot be opened ({first}); rebuild it with --overwrite") from error
    if len(index) != run["rows"]:
        raise UserError(
            f"index {name} of {encoder} holds {len(index):,} vectors; its run.json says {run['rows']:,}; rebuild it with --overwrite"
        )
    index.expansion_search = run["parameters"]["expansion_search"]  # a loaded index is back at USearch's default
    return index, run
