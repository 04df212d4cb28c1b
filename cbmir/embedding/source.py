"""Where an embedding run takes pixels from: the images' own files, or the study's packed images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cbmir.embedding.account import counted
from cbmir.embedding.options import EmbedOptions
from cbmir.encoders.spec import EncoderSpec
from cbmir.errors import UserError
from cbmir.select import PACKED_LEDGER
from cbmir.store import Study


@dataclass(frozen=True)
class Source:
    """What decides the pixels that encoders get, before their own geometry."""

    decode: str  # reduced: JPEG as small as the geometry allows; whole; or 'packed SIDE FINGERPRINT'
    packed: dict[str, Any] | None = None  # how the images were packed, as run.json of `packed` has it


def source_of(study: Study, specs: Sequence[EncoderSpec], options: EmbedOptions) -> Source:
    """The source that `options` ask for; UserError or ContractError, in one line, where the study's packed images will not do."""
    if not options.packed:
        return Source("whole" if options.whole_decode else "reduced")
    how = packed_for(study, specs)
    done, failed, missing = counted(study, PACKED_LEDGER)
    if missing:
        raise UserError(
            f"{missing:,} of the manifest's {done + failed + missing:,} images are not packed; pack them first: "
            f"cbmir pack --study {study.address} --short-side {how['short_side']}"
        )
    fingerprint = study.require("packed")["packed"]
    return Source(f"packed {how['short_side']} {fingerprint}", how)


def packed_for(study: Study, specs: Sequence[EncoderSpec]) -> dict[str, Any]:
    """How the study's images were packed; refuses where they are not, or too small for one of the encoders."""
    how = study.require("packed")["parameters"]
    for spec in specs:
        side = spec.geometry.taken
        if side > how["short_side"]:
            raise UserError(
                f"encoder {spec.name} resizes to {side} pixels, and the packed images have a short side of {how['short_side']}; pack larger "
                f"ones with: cbmir pack --study {study.address} --short-side {side} --overwrite, or embed without --packed"
            )
    return how


def in_words(decode: str) -> str:
    """Source.decode for people."""
    kind, *rest = decode.split()
    if kind == "packed":
        side, fingerprint = rest
        return f"images packed at a short side of {side} ({fingerprint})"
    return {"whole": "files, JPEG decoded whole", "reduced": "files, JPEG decoded small"}[kind]
