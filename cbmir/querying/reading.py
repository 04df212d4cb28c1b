"""How the images of a study were read before they were embedded, for any image; and the encoder that embedded them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cbmir.encoders.build import Encoder, build
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError
from cbmir.images.channels import in_grey
from cbmir.images.geometry import Geometry, reduction
from cbmir.images.read import read_pixels
from cbmir.images.shrunk import VERSION, Shrink, decoded, shrunk


@dataclass(frozen=True)
class Reader:
    """Files -> pixels as the vectors of the study were made of; packed: how they were shrunk first."""

    packed: Shrink | None
    whole: bool  # JPEG at its full size

    def read(self, uri: str, geometry: Geometry, data: bytes | None = None) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8, for a geometry; data: the file's bytes, if they have been read. ImageError where there is no image."""
        if self.packed:
            return shrunk(decoded(uri, self.packed, data=data)[0], self.packed)
        return in_grey(read_pixels(uri, None if self.whole else partial(reduction, geometries=[geometry]), data=data))

    def take(self, pixels: np.ndarray) -> np.ndarray:
        """The same for an image that is decoded already."""
        return shrunk(in_grey(pixels), self.packed) if self.packed else in_grey(pixels)


def refuse_imported(encoder: str, run: dict[str, Any]) -> None:
    """UserError where nothing here made the vectors."""
    if "imported" in run:
        raise UserError(
            f"the vectors of {encoder} were imported from {', '.join(run['imported'])}: what made them is not known here, so a new "
            "image has no vector; embed the study with an encoder of cbmir encoders"
        )


def refuse_as_published(encoder: str, run: dict[str, Any]) -> None:
    """UserError where queries were reduced by a projection of their own, fitted to all of them: one new image has none."""
    if run["parameters"].get("as_published"):
        asked = run["parameters"]
        raise UserError(
            f"the queries of {encoder} were reduced by a projection that was fitted to all of them, as published, so a new image has no "
            f"vector; use the one of the gallery: cbmir reduce --encoder {asked['source']} --pca {asked['pca']}"
        )


def reader(run: dict[str, Any]) -> Reader:
    """How the images of the study were read before `run` embedded them; UserError where that cannot be done any more."""
    how = Shrink(**run["packed"]) if run.get("packed") else None
    if how and how.version != VERSION:
        raise UserError(
            f"the images of the study were packed by another version of cbmir (packed format {how.version}, here {VERSION}), so a new "
            "image cannot be shrunk as they were; pack and embed them again with --overwrite"
        )
    return Reader(how, run["decode"] == "whole")


def rebuild(encoder: str, run: dict[str, Any], device: str) -> Encoder:
    """The encoder that made the study's vectors, on 'cpu' or 'cuda'; refuses weights that have changed since."""
    spec = EncoderSpec.from_dict(run["spec"])
    device = device if spec.needs_weights else "cpu"
    precision = run["precision"]
    if precision == "float16" and device == "cpu":
        precision = "float32"  # a processor takes ten times as long in float16, and float32 only rounds less
    model = build(spec, device=device, precision=precision)
    if model.weights_sha256 != run["weights_sha256"]:
        raise UserError(
            f"the weights of {spec.name} are not those of the study ({model.weights_sha256[:12]}, expected "
            f"{run['weights_sha256'][:12]}); bring back {spec.origin}"
        )
    dim = run.get("source_dim", run["dim"])  # before they were reduced
    if model.dim != dim:
        raise UserError(
            f"{spec.name} gives vectors of {model.dim} numbers, those of the study have {dim}; embed the study again with --overwrite"
        )
    return model
