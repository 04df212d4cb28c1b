"""One image -> its neighbors, for a person or a program."""

from __future__ import annotations

import csv as csv_module
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.datasets.folder import IMAGE_SUFFIXES
from cbmir.encoders.build import Encoder, build
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError
from cbmir.images.errors import OF_ONE_IMAGE, verdict
from cbmir.images.geometry import Geometry, apply, reduction
from cbmir.images.read import read_image
from cbmir.images.shrunk import VERSION, Shrink, decoded, shrunk
from cbmir.index import open_index
from cbmir.search import EXACT, TRAIN
from cbmir.searching.searchers import ExactSearch, IndexSearch, no_codes, torch_device
from cbmir.select import attach_manifest, connect, keys_where
from cbmir.store import Study
from cbmir.vectors import Vectors, find_encoder

BATCH = 64
Reader = Callable[[str, Geometry], np.ndarray]  # file -> (H, W) or (H, W, 3) uint8, for a geometry


def query(
    study: Study,
    encoder: str,
    index: str,
    images: list[str],
    *,
    k: int = 10,
    gallery: str | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """The k nearest gallery images of each image file (or of each in a directory).

    Returns one dict an image: image, uri, error (None, or why it could not be read) and neighbors: dicts of rank,
    distance, image_id, labels, modality, region, split, uri. The encoder is built as the study's embeddings were made.
    """
    encoder = find_encoder(study, encoder)
    vectors = Vectors(study, encoder)
    graph = None if index == EXACT else open_index(study, encoder, index)
    predicate = gallery or (graph.run["parameters"]["gallery"] if graph else TRAIN)
    keys = vectors.keys(keys_where(study, predicate, role="gallery")["image_key"].to_numpy())
    if not 1 <= k <= len(keys):
        raise UserError(f"-k {k}; expected 1 to {len(keys):,}, the embedded images of the gallery {predicate}")
    files = list_images(images)
    model = rebuild(vectors, device)
    found, read = encode_files(model, files, reader(vectors.run))
    if graph is None:
        searcher = ExactSearch(vectors, keys, no_codes(), k=k, device=device)
    else:
        how = {"expansion": graph.run["expansion_search"], "rerank": graph.run["rerank"]}
        searcher = IndexSearch(graph, keys, no_codes(), k=k, device=device, **how)
    good = [row for row in found if row["error"] is None]
    if good:
        near, distances, counts = searcher.block(
            -1 - np.arange(len(good)), read
        )  # no image of the study has these keys
        _describe(study, good, near, distances, counts)
    return found


def list_images(arguments: list[str]) -> list[str]:
    """Files as given; directories as the image files below them, sorted."""
    files: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            inside = sorted(
                str(p) for p in Path(argument).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
            )
            if not inside:
                raise UserError(f"no image below {argument}; expected files such as {', '.join(IMAGE_SUFFIXES[:3])}")
            files += inside
        elif "://" not in argument and "#" not in argument and not os.path.exists(argument):
            raise UserError(f"no file {argument}; expected an image or a directory of images")
        else:
            files.append(argument)
    return files


def rebuild(vectors: Vectors, device: str = "auto") -> Encoder:
    """The encoder that made the study's vectors; refuses weights that have changed since."""
    run = vectors.run
    if "imported" in run:
        raise UserError(
            f"the vectors of {vectors.encoder} were imported from {', '.join(run['imported'])}: what made them is not known here, so a new "
            "image has no vector; embed the study with an encoder of cbmir encoders"
        )
    spec = EncoderSpec.from_dict(run["spec"])
    model = build(spec, device=torch_device(device) if spec.needs_weights else "cpu", precision=run["precision"])
    if model.weights_sha256 != run["weights_sha256"]:
        raise UserError(
            f"the weights of {spec.name} are not those of the study ({model.weights_sha256[:12]}, expected "
            f"{run['weights_sha256'][:12]}); bring back {spec.origin}"
        )
    return model


def reader(run: dict[str, Any]) -> Reader:
    """How the images of the study were read before `run` embedded them, for any image."""
    if run.get("packed"):
        how = Shrink(**run["packed"])
        if how.version != VERSION:
            raise UserError(
                f"the images of the study were packed by another version of cbmir (packed format {how.version}, here {VERSION}), so a new "
                "image cannot be shrunk as they were; pack and embed them again with --overwrite"
            )
        return lambda file, geometry: shrunk(decoded(file, how)[0], how)
    if run["decode"] == "whole":
        return lambda file, geometry: read_image(file)
    return lambda file, geometry: read_image(file, partial(reduction, geometries=[geometry]))


def encode_files(model: Encoder, files: list[str], read: Reader) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Files -> (one dict each with image, uri, error, neighbors=[]; vectors (readable files, dim) float32)."""
    rows: list[dict[str, Any]] = []
    pixels: list[np.ndarray] = []
    vectors = [np.zeros((0, model.dim), np.float32)]
    for file in files:
        row: dict[str, Any] = {"image": os.path.basename(file), "uri": file, "error": None, "neighbors": []}
        try:
            geometry = model.spec.geometry
            pixels.append(apply(geometry, read(file, geometry)))
        except OF_ONE_IMAGE as error:
            row["error"] = ": ".join(verdict(error))
        rows.append(row)
        if len(pixels) == BATCH:
            vectors.append(model.encode(np.stack(pixels)))
            pixels = []
    if pixels:
        vectors.append(model.encode(np.stack(pixels)))
    if not any(row["error"] is None for row in rows):
        raise UserError(
            f"none of the {len(rows):,} images can be read; the first, {rows[0]['image']}: {rows[0]['error']}"
        )
    return rows, np.concatenate(vectors)


def _describe(study: Study, rows: list[dict], near: np.ndarray, distances: np.ndarray, counts: np.ndarray) -> None:
    """Put what the manifest says of each neighbor into the rows."""
    connection = connect()
    attach_manifest(connection, study)
    wanted = np.unique(np.concatenate([near[i, :n] for i, n in enumerate(counts)]))
    connection.register("wanted", {"image_key": wanted})
    columns = ("image_id", "labels", "modality", "region", "split", "uri")
    table = connection.sql(
        f"SELECT image_key, {', '.join(columns)} FROM manifest JOIN wanted USING (image_key)"
    ).fetchall()
    known = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in table}
    for i, row in enumerate(rows):
        row["neighbors"] = [
            {"rank": rank + 1, "distance": float(distances[i, rank]), **known[int(near[i, rank])]}
            for rank in range(counts[i])
        ]


def text(results: list[dict[str, Any]]) -> str:
    """Neighbors as aligned lines for a terminal."""
    lines = []
    for row in results:
        lines.append(f"{row['image']}" + (f"  cannot be read ({row['error']})" if row["error"] else ""))
        width = max((len(n["image_id"]) for n in row["neighbors"]), default=0)
        for n in row["neighbors"]:
            lines.append(
                f"  {n['rank']:>3}  {n['distance']:.4f}  {n['image_id']:<{width}}  {', '.join(n['labels']) or '-'}"
            )
    return "\n".join(lines)


def save_csv(results: list[dict[str, Any]], path: str) -> None:
    """One row a neighbor: image, rank, distance, image_id, labels, modality, region, split, uri."""
    columns = ("rank", "distance", "image_id", "labels", "modality", "region", "split", "uri")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv_module.writer(file)
        writer.writerow(("image", *columns))
        for row in results:
            for n in row["neighbors"]:
                values = [("|".join(n[c]) if c == "labels" else n[c]) for c in columns]
                writer.writerow((row["uri"], *values))
