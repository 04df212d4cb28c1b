"""TOML -> EncoderSpec: the rows of the table, and a user's own `--encoder spec.toml`, are written alike."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cbmir.encoders.layouts import LAYOUTS
from cbmir.encoders.spec import OUTPUTS, EncoderSpec
from cbmir.errors import UserError, nearest
from cbmir.images.geometry import CENTRES, FILTERS, MODES, Geometry

# source -> the outputs that its modules can give (cbmir/encoders/modules.py)
SOURCES = {
    "pixels": ("thumbnail",),
    "timm": tuple(output for output in OUTPUTS if output != "thumbnail"),
    "open_clip": ("projected",),
    "torchvision": ("pooled", "logits", "map_mean"),
    "conch": ("pooled",),
}
_ONLY = {"pixels": "thumbnail", "conch": "conch_ViT-B-16"}  # sources of one architecture
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
_GEOMETRY = {
    "size": int,
    "resize": int,
    "mode": str,
    "interpolation": str,
    "centre": str,
    "grey": bool,
    "fill": (int, list),
}
_TEXTS = ("summary", "note", "license", "citation", "checkpoint", "sha256", "layout", "output", "weights", "parity")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(_TEXTS, str),
    **_GEOMETRY,
    "name": str, "model": str, "options": dict, "dim": int, "unit": bool, "gated": bool, "parameters": int,
    "papers": list, "trained_on": list, "mean": (str, list), "std": (str, list),
}  # fmt: skip


@cache
def rows() -> dict[str, EncoderSpec]:
    """The table: every row of cbmir/encoders/rows/*.toml by its name."""
    found: dict[str, EncoderSpec] = {}
    for file in sorted((Path(__file__).parent / "rows").glob("*.toml")):
        for name, values in tomllib.loads(file.read_text(encoding="utf-8")).items():
            found[name] = from_values(name, values, f"{file.name} [{name}]", {})
    return found


def read_spec(path: str) -> EncoderSpec:
    """One encoder from a TOML file. Its name is the field `name`, else the file's; `weights` count from the file's directory.

    What the file leaves open of geometry, mean and std is what the library's own model has. So is the checkpoint, where
    the file names neither weights nor a layout: a layout says whose key names the weights have.
    """
    from cbmir.encoders.families import FAMILIES

    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no encoder file {path}; expected a TOML file as docs/encoders.md describes") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"encoder file {path}: {' '.join(str(error).split())}") from error
    values = dict(values)
    if isinstance(values.get("weights"), str) and "://" not in values["weights"]:
        directory = os.path.dirname(os.path.abspath(path))
        values["weights"] = os.path.normpath(os.path.join(directory, os.path.expanduser(values["weights"])))
    return from_values(values.get("name", Path(path).stem), values, path, FAMILIES)


Family = Callable[[str, int | None], EncoderSpec]


def from_values(name: str, values: dict[str, Any], where: str, families: dict[str, Family]) -> EncoderSpec:
    """A table of TOML -> the spec; UserError that names the field. What it leaves open, the model's family fills in."""
    _refuse_unknown(values, where)
    if not re.fullmatch(r"[\w.-]+", name):  # it stands in encoders' names, where '@', '~', ',' and '=' have a meaning
        raise UserError(f"{where}: name = {name!r}; expected name = one word of letters, digits, '.', '_' and '-'")
    source, model = _model(values, where)
    base = _of_library(families, source, model, where)
    model = base.model if base else model
    taken = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key not in ("name", "model", "mean", "std", *_GEOMETRY)
    }
    taken |= {"name": name, "source": source, "model": model, "geometry": _geometry(values, base, where)}
    taken |= {key: _channels(key, values, base, where) for key in ("mean", "std")}
    taken.setdefault("output", base.output if base else SOURCES[source][0])
    if base is not None:
        taken = {"summary": base.summary, "citation": base.citation} | taken
        if not values.keys() & {"checkpoint", "weights", "layout"}:
            taken = {"checkpoint": base.checkpoint, "license": base.license} | taken
        taken["options"] = base.options | taken.get("options", {})
        taken.setdefault("layout", base.layout)
    spec = EncoderSpec(**taken)
    _refuse_nonsense(spec, where)
    return spec


def _refuse_unknown(values: dict[str, Any], where: str) -> None:
    for key, value in values.items():
        if key not in _KINDS:
            near = nearest(key, list(_KINDS))
            raise UserError(
                f"{where}: unknown field '{key}'; {near or 'expected one of: ' + ', '.join(sorted(_KINDS))}"
            )
        kinds = _KINDS[key] if isinstance(_KINDS[key], tuple) else (_KINDS[key],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(f"{where}: {key} = {value!r}; expected {' or '.join(kind.__name__ for kind in kinds)}")


def _model(values: dict[str, Any], where: str) -> tuple[str, str]:
    """'timm:vit_base_patch16_224' -> ('timm', 'vit_base_patch16_224')."""
    source, _, model = values.get("model", "").partition(":")
    if source not in SOURCES or not model:
        raise UserError(
            f"{where}: model = {values.get('model', '')!r}; expected SOURCE:MODEL with a source of: {', '.join(SOURCES)}"
        )
    if model != _ONLY.get(source, model):
        raise UserError(f"{where}: model = '{source}:{model}'; expected '{source}:{_ONLY[source]}'")
    return source, model


def _of_library(families: dict[str, Family], source: str, model: str, where: str) -> EncoderSpec | None:
    """What the library says of its model."""
    try:
        return families[source](model, None) if source in families else None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _geometry(values: dict[str, Any], base: EncoderSpec | None, where: str) -> Geometry:
    known = base.geometry.as_dict() if base else {}
    given = {key: values[key] for key in _GEOMETRY if key in values}
    if "fill" in given:
        given["fill"] = _fill(given, where)
    elif given.get("grey") and isinstance(known.get("fill"), tuple):
        known["fill"] = known["fill"][0]  # the library's border, for one channel
    if "size" in given and "resize" not in given:
        known.pop("resize", None)
    merged = known | given
    if "size" not in merged:
        raise UserError(f"{where}: no size; expected size = PIXELS, the side of the square that the encoder takes")
    geometry = Geometry(**merged)
    if geometry.mode not in MODES:
        raise UserError(f"{where}: mode = {geometry.mode!r}; expected one of: {', '.join(MODES)}")
    if geometry.centre not in CENTRES:
        raise UserError(f"{where}: centre = {geometry.centre!r}; expected one of: {', '.join(CENTRES)}")
    if geometry.interpolation not in FILTERS:
        raise UserError(f"{where}: interpolation = {geometry.interpolation!r}; expected one of: {', '.join(FILTERS)}")
    if geometry.size < 1 or (geometry.resize is not None and geometry.resize < 1):
        raise UserError(f"{where}: size = {geometry.size}, resize = {geometry.resize}; expected 1 or more pixels")
    return geometry


def _fill(values: dict[str, Any], where: str) -> tuple[int, int, int] | int:
    fill = values["fill"]
    levels = fill if isinstance(fill, list) else [fill]
    are_levels = all(type(x) is int and 0 <= x <= 255 for x in levels)
    if not are_levels or (isinstance(fill, list) and (len(fill) != 3 or values.get("grey"))):
        expected = "a level of 0..255" if values.get("grey") else "a level of 0..255, or three of them"
        raise UserError(f"{where}: fill = {fill!r}; expected {expected}")
    return tuple(fill) if isinstance(fill, list) else fill


def _channels(key: str, values: dict[str, Any], base: EncoderSpec | None, where: str) -> tuple[float, ...]:
    grey = values.get("grey", base.geometry.grey if base else False)
    value = values.get(key)
    if value is None and base is not None:
        found = getattr(base, key)
        return found[:1] if grey else found
    if isinstance(value, str) and value in NORMS:
        found = NORMS[value][0 if key == "mean" else 1]
        return found[:1] if grey else found
    count = 1 if grey else 3
    numbers = isinstance(value, list) and all(type(x) in (int, float) and math.isfinite(x) for x in value)
    if not numbers or len(value) != count or (key == "std" and min(value) <= 0):
        raise UserError(
            f"{where}: {key} = {value!r}; expected {count} number{'s' if count > 1 else ''}"
            f"{' above 0' if key == 'std' else ''}, for pixels in 0..1, or one of: {', '.join(NORMS)}"
        )
    return tuple(float(x) for x in value)


def _refuse_nonsense(spec: EncoderSpec, where: str) -> None:
    if spec.output not in SOURCES[spec.source]:
        raise UserError(f"{where}: output = {spec.output!r}; expected one of: {', '.join(SOURCES[spec.source])}")
    if spec.layout not in LAYOUTS:
        near = nearest(spec.layout, list(LAYOUTS)) or f"expected one of: {', '.join(LAYOUTS)}"
        raise UserError(f"{where}: unknown layout '{spec.layout}'; {near}")
    if spec.dim is not None and spec.dim < 1:
        raise UserError(f"{where}: dim = {spec.dim}; expected 1 or more")
    for key in ("papers", "trained_on"):
        if not all(isinstance(text, str) for text in getattr(spec, key)):
            raise UserError(f"{where}: {key} = {list(getattr(spec, key))!r}; expected a list of texts")
    if spec.output == "projected" and spec.source == "timm" and not spec.dim:
        raise UserError(f"{where}: no dim; expected dim = N, the length of the projected vector")
