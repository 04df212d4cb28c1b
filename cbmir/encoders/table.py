"""A name as people type it -> the EncoderSpec it stands for."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from cbmir.encoders.families import FAMILIES, FAMILY_HELP
from cbmir.encoders.names import ParsedName, parse_name
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.spec_file import read_spec, rows
from cbmir.errors import UserError, nearest

LARGEST = 4096  # pixels
LEAST_DETAIL = 8  # pixels a side that are left of an image


def resolve(
    name: str, *, image_size: int | None = None, weights: str | None = None, random_seed: int | None = None
) -> EncoderSpec:
    """The spec of an encoder's name; flags of the command fill in what the name itself leaves open.

    Raises UserError for unknown names (with the nearest), and for weights given to an encoder that has none.
    """
    parsed = parse_name(name)
    parsed = replace(
        parsed,
        size=parsed.size or image_size,
        random_seed=parsed.random_seed if parsed.random_seed is not None else None if weights else random_seed,
    )
    if parsed.random_seed is not None and weights:
        raise UserError(f"encoder {name}: both weights from a file and random weights; expected one of them")
    if parsed.random_seed is not None and parsed.random_seed < 0:
        raise UserError(f"encoder {name}: random weights of seed {parsed.random_seed}; expected 0 or more")
    base = os.path.abspath(parsed.base) if parsed.base.endswith(".toml") else parsed.base
    spec, parsed = _base(parsed)
    if spec.geometry.size > LARGEST:
        raise UserError(f"encoder {name}: images of {spec.geometry.size} pixels; expected at most {LARGEST}")
    if not spec.needs_weights:
        if weights or (parsed.random_seed is not None and "~" in name):
            raise UserError(f"encoder {parsed.base} has no weights; leave --weights and ~random away for it")
        if parsed.options:
            raise UserError(f"encoder {parsed.base} takes no options; found {', '.join(parsed.options)}")
        parsed = replace(parsed, random_seed=None)
    if parsed.detail is not None and not LEAST_DETAIL <= parsed.detail <= LARGEST:
        raise UserError(f"encoder {name}: ~px{parsed.detail}; expected {LEAST_DETAIL} to {LARGEST} pixels")
    return replace(
        spec,
        geometry=replace(spec.geometry, detail=parsed.detail),
        name=parsed.canonical,
        asked=parsed.in_full(base),
        options=spec.options | parsed.options,
        weights=weights or (None if parsed.random_seed is not None else spec.weights),
        random_seed=parsed.random_seed,
    )


def _base(parsed: ParsedName) -> tuple[EncoderSpec, ParsedName]:
    """What the base of a name stands for at the size asked, and the name with what it is called in a study."""
    family, colon, model = parsed.base.partition(":")
    if colon and family in FAMILIES:
        return FAMILIES[family](model, parsed.size), parsed
    if parsed.base.endswith(".toml"):
        spec = read_spec(parsed.base)
        parsed = replace(parsed, base=spec.name)
    elif parsed.base in rows():
        spec = rows()[parsed.base]
    else:
        near = nearest(parsed.base, [*rows(), *FAMILY_HELP])
        raise UserError(f"unknown encoder '{parsed.base}'; {f'{near}; ' if near else ''}see cbmir encoders")
    if parsed.size == spec.geometry.size:
        parsed = replace(parsed, size=None)
    return _sized(spec, parsed.size), parsed


def _sized(spec: EncoderSpec, size: int | None) -> EncoderSpec:
    """The same encoder at another input size; the crop keeps its share of the resized image."""
    old = spec.geometry
    if size is None:
        return spec
    resize = math.floor(size * old.resize / old.size) if old.resize else None
    return replace(spec, geometry=replace(old, size=size, resize=resize), dim=_dim_at(spec, size))


def _dim_at(spec: EncoderSpec, size: int) -> int | None:
    """Pixels as a vector grow with the image; everything else keeps its length."""
    return size * size * spec.geometry.channels if spec.source == "pixels" else spec.dim
