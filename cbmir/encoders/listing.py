"""The table of encoders for people."""

from __future__ import annotations

from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.table import ENCODERS, FAMILIES, resolve


def listing() -> str:
    """Every row of the table, and the families, as aligned lines."""
    rows = [(name, f"{spec.geometry.size} px", spec.license or "-", spec.summary) for name, spec in ENCODERS.items()]
    rows += [(name, "", "", summary) for name, summary in FAMILIES.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + "  " + row[3] for row in rows
    ]
    lines += [
        "",
        "a name may go on: ,option=value of the architecture; @size in pixels; ~randomSEED for untrained weights;",
        "and begin with an alias: mobile=timm:mobilenetv2_100,pad_type=same@128",
    ]
    return "\n".join(lines)


def one(name: str) -> str:
    """One encoder in full, as 'field  value' lines."""
    spec = resolve(name)
    rows = {
        "name": spec.name,
        "source": spec.source,
        "model": spec.model,
        "weights": _weights(spec),
        "license": spec.license or "not stated by the source",
        "vector": spec.output,
        "input": _input(spec),
        "mean, std": f"{spec.mean}, {spec.std}",
        "options": ", ".join(f"{k}={v}" for k, v in spec.options.items()) or "-",
        "what it is": spec.summary,
        "cite": spec.citation,
    }
    return "\n".join(f"{key:<11} {value}" for key, value in rows.items())


def _weights(spec: EncoderSpec) -> str:
    if not spec.needs_weights:
        return "none needed"
    if spec.is_random:
        return f"random, seed {spec.random_seed}"
    return spec.hub_id or "none published: give --weights FILE"


def _input(spec: EncoderSpec) -> str:
    geometry = spec.geometry
    how = {"squash": "squashed", "short_side": "short side", "long_side": "long side"}[geometry.mode]
    channels = "grey" if geometry.grey else "RGB"
    return f"{geometry.size}x{geometry.size} {channels}; {how} to {geometry.resize or geometry.size}, {geometry.interpolation}, centre"
