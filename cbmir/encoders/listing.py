"""The table of encoders for people."""

from __future__ import annotations

from cbmir.encoders.families import FAMILY_HELP
from cbmir.encoders.fetch import Reach, present
from cbmir.encoders.spec import OUTPUTS, EncoderSpec
from cbmir.encoders.spec_file import rows
from cbmir.encoders.table import resolve

_HEADS = ("encoder", "dim", "px", "weights", "parity", "license", "what it is")


def listing(reach: Reach) -> str:
    """Every row of the table, and the families, as aligned lines."""
    table = [_HEADS, *(_row(spec, reach) for spec in rows().values())]
    table += [(name, "", "", "", "", "", summary) for name, summary in FAMILY_HELP.items()]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEADS) - 1)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[-1]}" for row in table
    ]
    lines += [
        "",
        "weights: here, or not here yet (cbmir encoders fetch NAME), gated (the hub asks for a login), or --weights FILE where none can be",
        "fetched; parity: the independent implementation that its vectors are held to in the tests",
        "a name may go on: ,option=value of the architecture; @size in pixels; ~randomSEED for untrained weights;",
        "and begin with an alias: mobile=timm:mobilenetv2_100,pad_type=same@128",
    ]
    return "\n".join(lines)


def _row(spec: EncoderSpec, reach: Reach) -> tuple[str, ...]:
    return (
        spec.name, str(spec.dim or ""), str(spec.geometry.size), _presence(spec, reach), spec.parity or _no_parity(spec),
        spec.license or "not stated", spec.summary,
    )  # fmt: skip


def _presence(spec: EncoderSpec, reach: Reach) -> str:
    if not spec.needs_weights:
        return "none needed"
    if present(spec, reach):
        return "here"
    if spec.origin is None:
        return "--weights FILE"
    return "gated" if spec.gated else "not here yet"


def _no_parity(spec: EncoderSpec) -> str:
    return "not shown" if spec.needs_weights else "Pillow"


def one(name: str, reach: Reach) -> str:
    """One encoder in full, as 'field  value' lines."""
    spec = resolve(name)
    found = {
        "name": spec.name,
        "what it is": spec.summary,
        "model": f"{spec.source}:{spec.model}",
        "options": ", ".join(f"{key}={value}" for key, value in spec.options.items()),
        "weights": _weights(spec, reach),
        "key names": spec.layout if spec.needs_weights else "",
        "license": spec.license or "not stated by the source",
        "gated": "yes: accept the license on the hub, then set HF_TOKEN" if spec.gated else "",
        "vector": OUTPUTS[spec.output] + (", brought to length 1" if spec.unit else ""),
        "dim": str(spec.dim or ""),
        "input": _input(spec),
        "mean, std": f"{spec.mean}, {spec.std}",
        "parameters": f"{spec.parameters:,}" if spec.parameters else "",
        "parity": spec.parity or _no_parity(spec),
        "papers": ", ".join(spec.papers),
        "trained on": ", ".join(spec.trained_on),
        "note": spec.note,
        "cite": spec.citation,
    }
    return "\n".join(f"{key:<11} {value}" for key, value in found.items() if value)


def _weights(spec: EncoderSpec, reach: Reach) -> str:
    if not spec.needs_weights:
        return "none needed"
    if spec.is_random:
        return f"random, seed {spec.random_seed}"
    if spec.origin is None:
        return "none to fetch: give --weights FILE"
    return f"{spec.origin} ({'here' if present(spec, reach) else 'not here yet'})"


def _input(spec: EncoderSpec) -> str:
    geometry = spec.geometry
    side = geometry.resize or geometry.size
    how = {
        "squash": f"squashed to {side}x{side}",
        "short_side": f"short side to {side}, centre of {geometry.size}",
        "long_side": f"long side to {side}, padded to a square",
        "long_side_corner": f"long side to {side}, padded right and below",
        "pad_square": f"padded to a square, brought to {side}",
    }[geometry.mode]
    channels = "grey" if geometry.grey else "RGB"
    first = f"brought to {geometry.detail}x{geometry.detail} first; " if geometry.detail else ""
    return f"{geometry.size}x{geometry.size} {channels}; {first}{how}, {geometry.interpolation}"
