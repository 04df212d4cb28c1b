"""What an encoder is, as data; and the grammar of encoder names."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cbmir.errors import UserError
from cbmir.images.geometry import Geometry


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that decides an encoder's vectors, and what people must know to use it.

    name          as people type it and tables show it; also its directory in a study
    source        'pixels' (no weights), 'timm' or 'open_clip'
    model         the source's own name of the architecture (timm: with its tag)
    pretrained    the source's own name of the weights; None where it has none
    options       keyword arguments of the architecture
    output        which tensor is the vector: 'thumbnail', 'pooled' or 'projected'
    geometry      resize and crop, before the encoder
    mean, std     of each channel, for pixels in 0..1
    weights_file  local file instead of the published weights
    random_seed   not None: weights are random, drawn with this seed
    license       of the weights, as their source states it; None where it does not
    hub_id        where published weights come from
    """

    name: str
    source: str
    model: str
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str
    pretrained: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    weights_file: str | None = None
    random_seed: int | None = None
    license: str | None = None
    hub_id: str | None = None
    summary: str = ""
    citation: str = ""

    @property
    def needs_weights(self) -> bool:
        return self.source != "pixels"

    @property
    def is_random(self) -> bool:
        return self.random_seed is not None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> EncoderSpec:
        geometry = dict(values["geometry"])
        if isinstance(geometry.get("fill"), list):
            geometry["fill"] = tuple(geometry["fill"])
        merged = values | {"geometry": Geometry(**geometry), "mean": tuple(values["mean"]), "std": tuple(values["std"])}
        return EncoderSpec(**merged)

    def fingerprint(self, weights_sha256: str, precision: str) -> str:
        """16 hex digits of what decides the vectors: weights, architecture, output, preprocessing, precision.

        The name and the place of the weights do not count.
        """
        decides = {
            "source": self.source, "model": self.model.split(".")[0], "options": self.options, "output": self.output,
            "geometry": self.geometry.as_dict(), "mean": self.mean, "std": self.std, "weights": weights_sha256,
            "precision": precision,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=list).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ParsedName:
    """A name taken apart: [alias=]base[,option=value...][@size][~randomSEED]."""

    base: str
    alias: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    random_seed: int | None = None

    @property
    def canonical(self) -> str:
        """The name in a study: the alias, or the parts in their fixed order; random weights always show in it."""
        options = "".join(f",{key}={_text(value)}" for key, value in sorted(self.options.items()))
        size = f"@{self.size}" if self.size else ""
        seed = f"~random{self.random_seed}" if self.random_seed is not None else ""
        return f"{self.alias}{seed}" if self.alias else f"{self.base}{options}{size}{seed}"


_NAME = re.compile(
    r"^(?:(?P<alias>[A-Za-z0-9._-]+)=)?(?P<base>[^,@~=]+(?:@(?!\d+(?:[~@,]|$))[^,@~=]+)?)(?P<options>(?:,[A-Za-z_]\w*=[^,@~]+)*)"
    r"(?:@(?P<size>[1-9]\d*))?(?:~random(?P<seed>\d+))?$"
)


def parse_name(name: str) -> ParsedName:
    """'m=timm:vit_base_patch16_224,pool_type=avg@64~random0' -> its parts; UserError where it does not fit."""
    match = _NAME.match(name.strip())
    if not match:
        raise UserError(
            f"encoder name {name!r} does not parse; expected [alias=]NAME[,option=value...][@size][~randomSEED], "
            "as in timm:mobilenetv2_100,pad_type=same@128; see cbmir encoders"
        )
    options = {}
    for pair in filter(None, match["options"].split(",")):
        key, _, text = pair.partition("=")
        options[key] = _value(text)
    number = {key: int(match[key]) if match[key] else None for key in ("size", "seed")}
    return ParsedName(match["base"], match["alias"], options, number["size"], number["seed"])


def _value(text: str) -> Any:
    """'3' -> 3, 'true' or 'True' -> True, '0.5' -> 0.5, else the text; `_text` is its inverse."""
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return text if isinstance(value, str) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def with_name(spec: EncoderSpec, parsed: ParsedName) -> EncoderSpec:
    return replace(spec, name=parsed.canonical)
