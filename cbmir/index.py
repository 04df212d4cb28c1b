"""Stage: embeddings -> USearch index of a gallery, built, brought up to date, and opened."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
import weakref
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cbmir.errors import UserError, nearest
from cbmir.holding import held
from cbmir.indexing.build import build_shards, fitted
from cbmir.indexing.codec import DTYPES, Codec
from cbmir.indexing.files import fetch, local_directory, refuse_damaged, writing
from cbmir.indexing.opened import OpenIndex
from cbmir.indexing.opening import LAYOUT, codec_of, files_of_run, opened
from cbmir.indexing.shard import Shape, totals
from cbmir.indexing.tune import find_expansion, sample_of
from cbmir.indexing.update import differences, update_shards
from cbmir.select import keys_where
from cbmir.store import Publication, Study, path_name, run_record
from cbmir.vectors import Vectors, find_encoder

METRICS = ("cos", "ip", "l2")
EXPANSION = 256
AREA = "index"  # the dataset of the study's indexes
_HOW_TO_SEARCH = ("expansion_search", "recall", "recall_at", "rerank")  # may change without the graph
_NOT_THE_INDEX = ("overwrite", "ray_address", "device")


@dataclass(frozen=True)
class IndexOptions:
    """What decides an index; all of it but overwrite, ray_address and device stands in its run.json."""

    gallery: str = "split = 'train'"
    metric: str = "cos"
    dtype: str = "bf16"
    pca: int | None = None  # principal axes that the graph knows of; None: everything
    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int | None = None  # None: EXPANSION, or what `recall` takes
    recall: float | None = None  # find the expansion that reaches it
    recall_at: int = 10
    rerank: int = 4  # candidates a neighbor, scored by exact distance
    shards: int = 1
    overwrite: bool = False
    ray_address: str | None = None
    device: str = "auto"  # of the exact search that recall is measured against

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be."""
        for name, known in (("dtype", DTYPES), ("metric", METRICS)):
            if getattr(self, name) not in known:
                raise UserError(f"--{name} {getattr(self, name)}; expected one of: {', '.join(known)}")
        least = {
            "pca": 1,
            "connectivity": 2,
            "expansion_add": 1,
            "expansion_search": 1,
            "rerank": 1,
            "shards": 1,
            "recall_at": 1,
        }
        for name, lowest in least.items():
            if (getattr(self, name) or lowest) < lowest or getattr(self, name) == 0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}; expected {lowest} or more")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise UserError(f"--recall {self.recall}; expected a share above 0, such as 0.99")
        if self.recall is not None and self.expansion_search is not None:
            raise UserError("--recall finds the expansion, and --expansion-search names it; give one of them")


def build_index(
    study: Study, encoder: str, name: str, options: IndexOptions, *, area: str = AREA
) -> tuple[dict[str, Any], bool]:
    """Build index `name` of one encoder's gallery -> (its run.json, whether anything was made now).

    An index of that name with other parameters is refused unless `overwrite`. One that is older than the embeddings or the manifest is brought up to
    them: images that are new, gone or changed are added and removed without building the graph again. Vectors with NaN or infinity are refused by
    key; under the cosine, zero vectors have no direction and stay out of the graph (their keys are in run.json), and exact search ranks them at
    distance 1. A second process waits for the first. area: the dataset that it becomes a part of.
    """
    options.refuse_nonsense()
    refuse_bad_name(name)
    encoder = find_encoder(study, encoder)
    with held(study, area, path_name(encoder), path_name(name)):
        return _build(study, encoder, name, options, area)


def _build(study: Study, encoder: str, name: str, options: IndexOptions, area: str) -> tuple[dict[str, Any], bool]:
    vectors = Vectors(study, encoder)
    parameters = {key: value for key, value in asdict(options).items() if key not in _NOT_THE_INDEX}
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": study.require("manifest")["fingerprint"]}
    draft = run_record("index", parameters=parameters, inputs=inputs, rows=0)
    target = (area, path_name(encoder), path_name(name))
    before = None if options.overwrite else study.run_of(*target)
    if before and before.get("layout") != LAYOUT:
        before = None
    tuned = options.recall is None or "recall" in (before or {})  # a run killed in between has built and not tuned
    if before and before["fingerprint"] == draft["fingerprint"] and tuned:
        return before, False
    if before:
        _refuse_other(before, parameters, f"index {name} of {encoder}")
    keys = vectors.keys(keys_where(study, options.gallery, role="gallery")["image_key"].to_numpy())
    if len(keys) == 0:
        raise UserError(
            f"the gallery is empty: none of the images of {options.gallery} was embedded by {encoder}; see failures"
        )
    if options.pca is not None and options.pca > vectors.dim:
        raise UserError(
            f"--pca {options.pca}; the vectors of {encoder} have {vectors.dim} numbers; expected as many or fewer"
        )
    began = time.monotonic()
    if before and before["dim"] == vectors.dim:
        made = _updated(study, target, before, vectors, keys, options, draft)
    else:
        made = _built(study, target, vectors, keys, options, draft)
    made["seconds"] = round(time.monotonic() - began, 2)
    if options.recall is not None:
        made |= {"recall": _tuned(open_index(study, encoder, name, area=area), vectors, options)}
        made["expansion_search"] = made["recall"]["expansion_search"]
    study.write_json(made, *target, "run.json")
    return made, True


def _refuse_other(before: dict[str, Any], parameters: dict[str, Any], named: str) -> None:
    for key, value in parameters.items():
        there = before["parameters"].get(key)
        if key not in _HOW_TO_SEARCH and there != value:
            raise UserError(
                f"{named} was built otherwise ({key} {there} there, {value} now); use another name, or --overwrite to rebuild it"
            )


def _shape(codec: Codec, vectors: Vectors, options: IndexOptions) -> Shape:
    stored = vectors.run.get("dtype") or "float32"
    return Shape(vectors.dim, stored, codec, options.connectivity, options.expansion_add)


def _built(
    study: Study,
    target: tuple[str, ...],
    vectors: Vectors,
    keys: np.ndarray,
    options: IndexOptions,
    draft: dict[str, Any],
) -> dict[str, Any]:
    codec = fitted(vectors, keys, metric=options.metric, dtype=options.dtype, pca=options.pca)
    with study.publishing(*target) as out:
        shape = _shape(codec, vectors, options)
        shards = build_shards(out, vectors, keys, shape, shards=options.shards, ray_address=options.ray_address)
        out.run = _record(out, draft, shards, codec, options, shape.stored) | {"change": None}
    return out.run


def _updated(
    study: Study,
    target: tuple[str, ...],
    before: dict[str, Any],
    vectors: Vectors,
    keys: np.ndarray,
    options: IndexOptions,
    draft: dict[str, Any],
) -> dict[str, Any]:
    with local_directory(study, *target) as old:
        refuse_damaged(old, files_of_run(before), named="/".join(target))
        codec = codec_of(old, before)
        gone, new = (
            differences(vectors, keys, old, before["shards"])
            if before["inputs"] != draft["inputs"]
            else (keys[:0], keys[:0])
        )
        with study.publishing(*target) as out:
            shape = _shape(codec, vectors, options)
            shards, counts = update_shards(out, old, before["shards"], shape, gone=gone, new=new, vectors=vectors)
            change = {"removed": len(gone), "added": len(new), "shards": counts}
            out.run = _record(out, draft, shards, codec, options, shape.stored) | {"change": change}
    return out.run


def _record(
    out: Publication,
    draft: dict[str, Any],
    shards: list[dict[str, Any]],
    codec: Codec,
    options: IndexOptions,
    stored: str,
) -> dict[str, Any]:
    """run.json, and the codec's arrays beside it."""
    with writing(out) as directory:
        codec.save(directory)
    return draft | {
        "layout": LAYOUT,
        **totals(shards),
        "dim": len(codec.centre),
        "stored_dtype": stored,
        "codec": codec.described(),
        "shards": shards,
        "expansion_search": options.expansion_search or EXPANSION,
        "rerank": options.rerank,
    }


def _tuned(index: OpenIndex, vectors: Vectors, options: IndexOptions) -> dict[str, Any]:
    """The expansion for the recall that is wanted, on images outside of the gallery; on some of its own where there are none."""
    everything = vectors.keys(keys_where(vectors.study, "true", role="gallery")["image_key"].to_numpy())
    outside = np.setdiff1d(everything, index.keys, assume_unique=True)
    keys, queries = vectors.load(sample_of(outside if len(outside) else everything))
    found = find_expansion(
        index,
        keys,
        queries,
        wanted=options.recall,
        k=options.recall_at,
        rerank=options.rerank,
        device=options.device,
    )
    return found | {"queries_from": "outside the gallery" if len(outside) else "the gallery"}


def index_line(encoder: str, name: str, run: dict[str, Any], made: bool) -> str:
    """What a person is told of it."""
    change = run["change"]
    if not made:
        state = "already built"
    elif change is None:
        state = f"built in {run['seconds']:.1f} s"
    else:
        state = f"{change['added']:,} added, {change['removed']:,} removed in {run['seconds']:.1f} s"
    line = f"index {name} of {encoder}: {run['rows']:,} vectors, {run['graph_bytes'] / 1e6:,.1f} MB, {state}"
    if run["zero_vectors"]:
        first = next(key for shard in run["shards"] for key in shard["without_direction"])
        line += f"; {run['zero_vectors']:,} vectors of zeros have no direction and are not in it, the first of image_key {first}"
    recall = run.get("recall")
    if recall:
        line += f"; recall@{recall['k']} {recall['measured']:.3f} at expansion {recall['expansion_search']}"
        if not recall["reached"]:
            line += f", short of {recall['wanted']}: raise --rerank, --connectivity or --expansion-add, or take another --dtype"
    return line


def refuse_bad_name(name: str) -> None:
    """An index's name is part of a path, and 'exact' is taken."""
    if name == "exact" or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise UserError(
            f"--index {name}: not a name for an index; expected letters, digits, '.', '_', '-', and not 'exact'"
        )


def open_index(study: Study, encoder: str, name: str, *, area: str = AREA) -> OpenIndex:
    """A finished index, memory-mapped; one on an object store is fetched to a temporary directory first.

    Refuses one that is older than the embeddings, damaged, or of another layout.
    """
    again = f"cbmir index --study {study.address} --encoder {encoder} --index {name}"
    names = study.names(area, path_name(encoder))
    if name not in names:
        near = nearest(name, [*names, "exact"]) or f"there: {', '.join([*names, 'exact'])}"
        raise UserError(f"no index '{name}' of {encoder} in the study; {near}; build it with: {again}")
    target = (area, path_name(encoder), path_name(name))
    run = study.require(*target)
    if run.get("layout") != LAYOUT:
        raise UserError(
            f"index {name} of {encoder} was built by another version of cbmir (layout {run.get('layout', 1)}, here {LAYOUT}); "
            f"rebuild it with: {again}"
        )
    vectors = Vectors(study, encoder)
    if run["inputs"]["embeddings"] != vectors.run["fingerprint"]:
        raise UserError(f"index {name} of {encoder} is older than the embeddings; bring it up to them with: {again}")
    if run["dim"] != vectors.dim:
        raise UserError(
            f"index {name} of {encoder} holds vectors of {run['dim']}, the study has {vectors.dim}; rebuild it with: {again}"
        )
    if study.is_local:
        return opened(study.path(*target), run, f"index {name} of {encoder}")
    directory = tempfile.mkdtemp(prefix="cbmir-")
    try:
        fetch(study, directory, *target)
        index = opened(directory, run, f"index {name} of {encoder}")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    weakref.finalize(index, shutil.rmtree, directory, ignore_errors=True)
    return index


def damage(study: Study, encoder: str, name: str) -> str | None:
    """What is wrong with the files of a finished index, all of which are read; None: nothing."""
    target = ("index", path_name(encoder), path_name(name))
    run = study.require(*target)
    if run.get("layout") != LAYOUT:
        return f"index {name} of {encoder} was built by another version of cbmir; rebuild it"
    try:
        with local_directory(study, *target) as directory:
            refuse_damaged(directory, files_of_run(run), named=f"index {name} of {encoder}", whole=True)
    except UserError as error:
        return str(error)
    return None
