"""TOML -> EncoderSpec: the rows of the table, and a user's own `--encoder spec.toml`, are written alike."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from cbmir.encoders.layouts import LAYOUTS
from cbmir.encoders.spec import OUTPUTS, EncoderSpec
from cbmir.errors import UserError, nearest
from cbmir.images.geometry import FILTERS, MODES, Geometry

SOURCES = ("pixels", "timm", "open_clip", "torchvision", "conch")
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
_GEOMETRY = {"size": int, "resize": int, "mode": str, "interpolation": str, "grey": bool, "fill": (int, list)}
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
            found[name] = from_values(name, values, f"{file.name} [{name}]")
    return found


def read_spec(path: str) -> EncoderSpec:
    """One encoder from a TOML file. Its name is the field `name`, else the file's; `weights` count from the file's directory.

    What the file leaves open of geometry, mean and std is what the library's own model has.
    """
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
    name = values.pop("name", None) or Path(path).stem
    return from_values(name, values, path)


def from_values(name: str, values: dict[str, Any], where: str) -> EncoderSpec:
    """A table of TOML -> the spec; UserError that names the field."""
    _refuse_unknown(values, where)
    source, colon, model = values.get("model", "").partition(":")
    if not colon or source not in SOURCES:
        raise UserError(
            f"{where}: model = {values.get('model', '')!r}; expected SOURCE:MODEL with a source of: {', '.join(SOURCES)}"
        )
    base = _of_library(source, model, values)
    taken = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key not in ("model", "mean", "std", *_GEOMETRY)
    }
    taken |= {"name": name, "source": source, "model": model, "geometry": _geometry(values, base, where)}
    taken |= {key: _channels(key, values, base, where) for key in ("mean", "std")}
    taken.setdefault("output", base.output if base else "")
    if base is not None:  # a model of a library, told of in part
        taken = {"summary": base.summary, "citation": base.citation, "checkpoint": base.checkpoint} | taken
        if not values.keys() & {"checkpoint", "weights"}:
            taken.setdefault("license", base.license)
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


def _of_library(source: str, model: str, values: dict[str, Any]) -> EncoderSpec | None:
    """What the library says of its model, where the file leaves something open."""
    if {"size", "mode", "interpolation", "mean", "std", "output"} <= values.keys():
        return None
    from cbmir.encoders.families import FAMILIES

    return FAMILIES[source](model, None) if source in FAMILIES else None


def _geometry(values: dict[str, Any], base: EncoderSpec | None, where: str) -> Geometry:
    known = base.geometry.as_dict() if base else {}
    given = {key: values[key] for key in _GEOMETRY if key in values}
    if isinstance(given.get("fill"), list):
        given["fill"] = tuple(given["fill"])
    if "size" in given and "resize" not in given:
        known.pop("resize", None)
    merged = known | given
    if "size" not in merged:
        raise UserError(f"{where}: no size; expected size = PIXELS, the side of the square that the encoder takes")
    geometry = Geometry(**merged)
    if geometry.mode not in MODES:
        raise UserError(f"{where}: mode = {geometry.mode!r}; expected one of: {', '.join(MODES)}")
    if geometry.interpolation not in FILTERS:
        raise UserError(f"{where}: interpolation = {geometry.interpolation!r}; expected one of: {', '.join(FILTERS)}")
    if geometry.size < 1 or (geometry.resize is not None and geometry.resize < 1):
        raise UserError(f"{where}: size = {geometry.size}, resize = {geometry.resize}; expected 1 or more pixels")
    return geometry


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
    numbers = isinstance(value, list) and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
    if not numbers or len(value) != count or (key == "std" and min(value) <= 0):
        raise UserError(
            f"{where}: {key} = {value!r}; expected {count} number{'s' if count > 1 else ''}"
            f"{' above 0' if key == 'std' else ''}, for pixels in 0..1, or one of: {', '.join(NORMS)}"
        )
    return tuple(float(x) for x in value)


def _refuse_nonsense(spec: EncoderSpec, where: str) -> None:
    if spec.output not in OUTPUTS or (spec.output == "thumbnail") != (spec.source == "pixels"):
        raise UserError(
            f"{where}: output = {spec.output!r}; expected one of: {', '.join(o for o in OUTPUTS if o != 'thumbnail')}"
        )
    if spec.layout not in LAYOUTS:
        near = nearest(spec.layout, list(LAYOUTS)) or f"expected one of: {', '.join(LAYOUTS)}"
        raise UserError(f"{where}: unknown layout '{spec.layout}'; {near}")
    if spec.output == "projected" and spec.source == "timm" and not spec.dim:
        raise UserError(f"{where}: no dim; expected dim = N, the length of the projected vector")
