"""Stage: an encoder's embeddings -> those of another encoder with fewer numbers, by principal components of the gallery.

Mahbod et al. 2024 reduce every vector to 256 numbers before they search. Here the projection is fitted to the gallery alone; `as_published` does as
their code did, which fitted a second one to the queries: coordinates along different axes are compared then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cbmir.embedding.account import account
from cbmir.errors import UserError
from cbmir.holding import held
from cbmir.origin import of_the_images
from cbmir.progress import Progress
from cbmir.reducing.fits import Fits, fit_role
from cbmir.reducing.record import PUBLISHED, is_reduced, reduced_name
from cbmir.reducing.stored import write_projection
from cbmir.schemas import FAILURES, embeddings
from cbmir.select import keys_where
from cbmir.store import Publication, Study, changed_parameter, path_name, run_record
from cbmir.vectors import TILE_ROWS, Vectors, find_encoder


@dataclass(frozen=True)
class ReduceOptions:
    """What decides reduced vectors; all of it but overwrite stands in their run.json."""

    pca: int  # numbers of a vector
    gallery: str = "split = 'train'"
    queries: str | None = None  # with as_published: split = 'test' unless said otherwise
    as_published: str | None = None  # the paper whose code is followed where it differs
    overwrite: bool = False

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be."""
        if self.pca < 1:
            raise UserError(f"--pca {self.pca}; expected 1 or more")
        if self.as_published is not None and self.as_published not in PUBLISHED:
            raise UserError(f"--as-published {self.as_published}; expected one of: {', '.join(PUBLISHED)}")
        if self.queries is not None and self.as_published is None:
            raise UserError(
                "--queries without --as-published; expected it where they are to have a projection of their own; "
                "leave it away: every image is projected as the gallery is"
            )

    def parameters(self, source: str) -> dict[str, Any]:
        queries = (self.queries or "split = 'test'") if self.as_published else None
        return {
            "source": source, "pca": self.pca, "gallery": self.gallery, "queries": queries, "as_published": self.as_published,
        }  # fmt: skip


def reduce_embeddings(study: Study, encoder: str, options: ReduceOptions) -> tuple[dict[str, Any], bool]:
    """Publish the reduced vectors of `encoder` as an encoder of their own -> (its run.json, whether they were made now).

    Every image of the manifest has a vector or a failure, as in the source. Vectors reduced with other parameters are refused unless `overwrite`;
    those whose source or manifest has changed are made again. UserError, before anything is written, for misuse. A second process waits for
    the first.
    """
    options.refuse_nonsense()
    source = find_encoder(study, encoder)
    name = reduced_name(source, options.pca, options.as_published)
    with held(study, "embeddings", f"encoder={path_name(name)}"):
        return _reduce(study, source, name, options)


def _reduce(study: Study, source: str, name: str, options: ReduceOptions) -> tuple[dict[str, Any], bool]:
    manifest = study.require("manifest")
    vectors = Vectors(study, source)
    _refuse_reduced(vectors)
    inputs = {"embeddings": vectors.run["fingerprint"], "manifest": manifest["fingerprint"]}
    draft = run_record("reduce", parameters=options.parameters(source), inputs=inputs, rows=0)
    before = study.run_of("embeddings", f"encoder={path_name(name)}")
    if before and before["fingerprint"] == draft["fingerprint"] and not options.overwrite:
        return before, False
    changed = changed_parameter(before, draft) if before else None
    if changed and not options.overwrite:
        raise UserError(f"the study has embeddings of {name} made otherwise ({changed}); --overwrite replaces them")
    _refuse_incomplete(study, source)
    return _publish(study, vectors, name, draft), True


def _refuse_reduced(vectors: Vectors) -> None:
    if is_reduced(vectors.run):
        source = vectors.run["parameters"]["source"]
        raise UserError(
            f"--encoder {vectors.encoder} is reduced from {source} already; reduce that one to fewer numbers: --encoder {source}"
        )


def _refuse_incomplete(study: Study, source: str) -> None:
    """The manifest may have grown since its images were embedded."""
    counted = account(study, source)
    if counted.missing:
        raise UserError(
            f"{counted.line()}; expected a vector or a failure for every image of the manifest; embed or import them first"
        )


def _publish(study: Study, vectors: Vectors, name: str, draft: dict[str, Any]) -> dict[str, Any]:
    """Fit, then write projections, vectors and failures -> run.json."""
    began = time.monotonic()
    fits = _fits(study, vectors, draft["parameters"])
    images = keys_where(study, "true", role="gallery")["image_key"].to_numpy()
    target = f"encoder={path_name(name)}"
    with study.publishing("embeddings", target) as out:
        rows = _write(out, _reduced(vectors, images, fits))
        failed = _copy_failures(study, vectors, images, target, draft)
        if rows + failed != len(images):
            raise UserError(
                f"{name}: {rows:,} vectors and {failed:,} failures for {len(images):,} images: the embeddings of {vectors.encoder} have "
                "changed while they were read; run the same command again"
            )
        for role, fitted in fits.by_role.items():
            write_projection(out, fitted.projection, role)
        out.run = draft | of_the_images(vectors.run) | {
            "rows": rows, "failed": failed, "dim": draft["parameters"]["pca"], "dtype": "float32", "source_dim": vectors.dim,
            "fitted_to": {role: fitted.described() for role, fitted in fits.by_role.items()}, "seconds": round(time.monotonic() - began, 2),
        }  # fmt: skip
    return out.run


def _fits(study: Study, vectors: Vectors, parameters: dict[str, Any]) -> Fits:
    """A projection for the gallery and, as published, one for the queries."""
    roles = ["gallery", "queries"] if parameters["as_published"] else ["gallery"]
    selected = {role: keys_where(study, parameters[role], role=role)["image_key"].to_numpy() for role in roles}
    fitted = {
        role: fit_role(vectors, keys, parameters["pca"], role=role, predicate=parameters[role])
        for role, keys in selected.items()
    }
    return Fits(fitted, selected.get("queries", np.zeros(0, np.int64)))


def _reduced(vectors: Vectors, images: np.ndarray, fits: Fits) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(keys (m,), vectors (m, k) float32) of the manifest's images, in the order of the source's files."""
    with Progress("reduce", vectors.run["rows"], unit="vectors") as progress:
        for keys, tile in vectors.tiles(images):
            reduced = fits.apply(keys, tile)
            bad = keys[~np.isfinite(reduced).all(axis=1)]
            if len(bad):
                raise UserError(
                    f"the vector that {vectors.encoder} gave image_key {int(bad[0])} is too large: reduced, it is no float32 any more; "
                    "embed or import that image otherwise"
                )
            yield keys, reduced
            progress.advance(len(keys))


def _write(out: Publication, tiles: Iterable[tuple[np.ndarray, np.ndarray]]) -> int:
    """Files of about TILE_ROWS rows -> how many rows; one file is in memory."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    rows = part = 0
    for tile in tiles:
        waiting.append(tile)
        if sum(len(keys) for keys, _ in waiting) >= TILE_ROWS:
            rows, part, waiting = rows + _flush(out, waiting, part), part + 1, []
    return rows + (_flush(out, waiting, part) if waiting else 0)


def _flush(out: Publication, tiles: list[tuple[np.ndarray, np.ndarray]], part: int) -> int:
    keys, vectors = (np.concatenate(arrays) for arrays in zip(*tiles, strict=True))
    contract = embeddings(vectors.shape[1])
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=contract.field("embedding").type)
    table = pa.table([pa.array(keys, pa.int64()), column], schema=contract)
    out.write_table(table, f"part-{part:05d}.parquet", "embeddings", contract)
    return len(keys)


def _copy_failures(study: Study, vectors: Vectors, images: np.ndarray, target: str, draft: dict[str, Any]) -> int:
    """Failures of the manifest's images, as the source has them -> how many."""
    there = study.files("failures", vectors.directory)
    table = study.dataset("failures", vectors.directory).to_table() if there else FAILURES.empty_table()
    table = table.filter(pc.is_in(table["image_key"], pa.array(images)))
    with study.publishing("failures", target) as out:
        if table.num_rows:
            out.write_table(table, "part-00000.parquet", "failures")
        out.run = run_record("reduce", parameters=draft["parameters"], inputs=draft["inputs"], rows=table.num_rows)
    return table.num_rows


def reduce_line(run: dict[str, Any], made: bool) -> str:
    """What a person is told of it."""
    asked = run["parameters"]
    name = reduced_name(asked["source"], asked["pca"], asked["as_published"])
    failed = f", {run['failed']:,} failed" if run["failed"] else ""
    whose = {"gallery": "the gallery's", "queries": "the queries'"}
    kept = ", ".join(
        f"{to['explained_variance']:.1%} of {whose[role]} variance" for role, to in run["fitted_to"].items()
    )
    state = f"{run['seconds']:.1f} s" if made else "already reduced"
    return f"{name}: {run['rows']:,} vectors{failed}, {run['dim']:,} of {run['source_dim']:,} numbers, {kept}, {state}"
