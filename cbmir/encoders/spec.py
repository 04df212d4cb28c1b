"""What an encoder is, as data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cbmir.images.geometry import Geometry

# output -> what it is, for people; cbmir/encoders/outputs.py computes them
OUTPUTS = {
    "thumbnail": "the pixels themselves",
    "pooled": "what the architecture itself pools, before its classifier",
    "cls": "the class token after the last norm",
    "cls_mean": "the class token, and the mean of the patch tokens behind it",
    "mean": "the mean of the patch tokens after the last norm",
    "map_mean": "the mean of the spatial feature map",
    "projected": "the pooled vector after the projection into the space shared with texts",
    "logits": "the classifier's output, before softmax",
    "masked_cls": "the class token when three of four patches are hidden at random, as in training",
}


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that decides an encoder's vectors, and what people must know to use it.

    name         as people type it and tables show it; also its directory in a study
    source       'pixels' (no weights), or whose code builds the architecture: 'timm', 'open_clip', 'torchvision', 'conch'
    model        the source's own name of the architecture
    geometry     resize and crop, before the encoder
    mean, std    of each channel, for pixels in 0..1
    output       which tensor is the vector: one of OUTPUTS
    options      keyword arguments of the architecture
    dim          length of the vector, as its authors state it; None: found out by running
    unit         whether the published pipeline brings vectors to length 1
    checkpoint   address of the published weights (cbmir/encoders/addresses.py); None where there are none
    sha256       of that file, where its publisher states it
    layout       whose key names the weights have: one of cbmir/encoders/layouts.py
    weights      a file or address given instead of the checkpoint
    random_seed  not None: weights are random, drawn with this seed
    license      of the weights, as their source states it; None where it does not
    gated        whether the hub asks for a login and an accepted license
    parameters   how many numbers the image part has
    parity       the independent implementation that tests hold it to; None: not shown
    asked        the name in full as it was asked for, which gives this spec again
    papers       published benchmarks that have it in their tables
    trained_on   collections in its training data that people also measure retrieval on
    note         what a user must know beyond that
    """

    name: str
    source: str
    model: str
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str
    options: dict[str, Any] = field(default_factory=dict)
    dim: int | None = None
    unit: bool = False
    checkpoint: str | None = None
    sha256: str | None = None
    layout: str = "own"
    weights: str | None = None
    random_seed: int | None = None
    license: str | None = None
    gated: bool = False
    parameters: int | None = None
    parity: str | None = None
    papers: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    asked: str = ""
    summary: str = ""
    note: str = ""
    citation: str = ""

    @property
    def needs_weights(self) -> bool:
        return self.source != "pixels"

    @property
    def is_random(self) -> bool:
        return self.random_seed is not None

    @property
    def origin(self) -> str | None:
        """Address of the weights: those given, else those published."""
        return self.weights or self.checkpoint

    @property
    def built(self) -> EncoderSpec:
        """What stands for the network alone: equal for specs that differ in their names and in how much of an image they are shown."""
        return replace(self, name="", asked="", geometry=replace(self.geometry, detail=None))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self) | {"geometry": self.geometry.as_dict()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> EncoderSpec:
        geometry = dict(values["geometry"])
        if isinstance(geometry.get("fill"), list):
            geometry["fill"] = tuple(geometry["fill"])
        texts = {name: tuple(values[name]) for name in ("mean", "std", "papers", "trained_on") if name in values}
        return EncoderSpec(**values | {"geometry": Geometry(**geometry)} | texts)

    def fingerprint(self, weights_sha256: str, precision: str, decode: str = "whole") -> str:
        """16 hex digits of what decides the vectors: weights, architecture, output, preprocessing, precision.

        The name and the place of the weights do not count.
        """
        decides = {
            "source": self.source, "model": self.model.split(".")[0], "options": self.options, "output": self.output,
            "unit": self.unit, "geometry": self.geometry.as_dict(), "mean": self.mean, "std": self.std,
            "weights": weights_sha256, "precision": precision, "decode": decode,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=list).encode()).hexdigest()[:16]


FIELDS = {field.name for field in fields(EncoderSpec)}
