"""Stage: manifest -> packed images and packed_failures, on Ray: each image once, shrunk to a short side and written without loss.

Optional, and worth its time where full-size images are embedded more than once: `cbmir embed --packed` then reads a tenth of the bytes and
decodes in a tenth of the time. What is written is the checkpoint: a run starts from the manifest minus what is there.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from cbmir.cluster import ray_session
from cbmir.embedding.account import counted, orphans_line, remove_doubles
from cbmir.embedding.addresses import sweep_debris
from cbmir.errors import UserError, refuse_many_failures
from cbmir.images.shrunk import Shrink
from cbmir.select import PACKED_LEDGER
from cbmir.shrinking import stream
from cbmir.store import Study, changed_parameter, fingerprint, run_record

MOST_SIDE = 4096


@dataclass(frozen=True)
class PackOptions:
    """What a person says about packing; short side and whole_decode decide the pixels."""

    short_side: int = 512
    whole_decode: bool = False
    max_failures: float = 0.01  # share of the manifest
    overwrite: bool = False
    retry_failures: bool = False
    ray_address: str | None = None

    @property
    def how(self) -> Shrink:
        return Shrink(self.short_side, whole=self.whole_decode)

    def refuse_nonsense(self) -> None:
        """UserError for values outside what they can be."""
        if not 8 <= self.short_side <= MOST_SIDE:
            raise UserError(f"--short-side {self.short_side}; expected 8 to {MOST_SIDE} pixels")
        if not 0 <= self.max_failures <= 1:
            raise UserError(f"--max-failures {self.max_failures}; expected a share such as 0.01 or 1%")


@dataclass(frozen=True)
class PackAccount:
    """What became of a manifest's rows; the three counts add up to the manifest."""

    packed: int
    failed: int
    missing: int

    def line(self) -> str:
        failed = f"{self.failed:,} failed" + (": see packed_failures" if self.failed else "")
        return f"{self.packed:,} images packed, {failed}" + (f", {self.missing:,} to do" if self.missing else "")


def pack_images(study: Study, options: PackOptions, *, say=print) -> PackAccount:
    """Pack every image of the manifest that is not packed. `say` takes the lines for people.

    Raises UserError for misuse before anything is written, and TooManyFailures after everything that could be packed was, if more than
    `max_failures` of the images failed.
    """
    options.refuse_nonsense()
    manifest = study.require("manifest")
    _prepare(study, options)
    before = study.run_of("packed")
    if before is None or before["inputs"]["manifest"] != manifest["fingerprint"] or account(study).missing:
        _run(study, options, manifest, say)
    found = account(study)
    say(f"pack: {found.line()}; short side {options.short_side}, {size(study) / 1e6:,.1f} MB")
    if line := orphans_line(study, "pack", PACKED_LEDGER):
        say(line)
    total = found.packed + found.failed
    refuse_many_failures("pack", found.failed, total, options.max_failures, see="packed_failures")
    return found


def account(study: Study) -> PackAccount:
    """Count the manifest's rows by what has become of them."""
    return PackAccount(*counted(study, PACKED_LEDGER))


def size(study: Study) -> int:
    """Bytes of the packed images."""
    return sum(info.size for info in study.fs.get_file_info(study.files("packed")))


def _prepare(study: Study, options: PackOptions) -> None:
    """Refuse images packed otherwise, or clear them away when told to."""
    if options.overwrite:
        study.delete("packed", "run.json")  # first: a kill in between leaves them unfinished
        study.delete("packed_failures")
        study.delete("packed")
    started = study.read_json("packed", "started.json")
    changed = started and changed_parameter(started, _begun(options.how))
    if changed:
        raise UserError(f"the study has images packed otherwise ({changed}); --overwrite packs all of them anew")
    if options.retry_failures and study.exists("packed_failures"):
        study.delete("packed", "run.json")
        study.delete("packed_failures")


def _begun(how: Shrink) -> dict[str, Any]:
    """What decides the pixels, and a short name for it that goes into the fingerprints of what is made of them."""
    return {"parameters": how.as_dict(), "packed": fingerprint("packed", how.as_dict())}


def _run(study: Study, options: PackOptions, manifest: dict[str, Any], say) -> None:
    """Pack what is missing, then account for every row and write run.json."""
    attempt, began = uuid.uuid4().hex, time.time()
    study.delete("packed", "run.json")
    sweep_debris(study, PACKED_LEDGER)
    stream.sweep(study)
    study.write_json(_begun(options.how) | {"attempt": attempt}, "packed", "started.json")
    told: dict[str, float] = {}
    missing = account(study).missing
    try:
        if missing:
            with ray_session(options.ray_address):
                told = stream.run(study, stream.todo(study, attempt, missing), attempt, options.how)
    finally:
        study.delete(*stream.staging(attempt))
    attempted = _summary(told, time.time() - began)
    if missing:
        say(_in_words(attempted))
    _finish(study, options.how, manifest, attempted)


def _summary(told: dict[str, float], seconds: float) -> dict[str, Any]:
    """What is kept of a run and printed at its end. seconds_by: of all tasks together."""
    by = {name: round(spent, 2) for name, spent in told.items() if name not in ("rows", "failed")}
    return {"images": int(told.get("rows", 0)), "seconds": round(seconds, 2), "seconds_by": by}


def _in_words(attempted: dict[str, Any]) -> str:
    """`_summary` as a line for people."""
    total = sum(attempted["seconds_by"].values()) or 1.0
    shares = ", ".join(f"{name} {100 * spent / total:.0f} %" for name, spent in attempted["seconds_by"].items())
    return f"pack: {attempted['images']:,} images in {attempted['seconds']:,.1f} s; the workers' time: {shares}"


def _finish(study: Study, how: Shrink, manifest: dict[str, Any], attempted: dict[str, Any]) -> None:
    """Conservation, then run.json: every row of the manifest is a packed image or a failure, once."""
    doubles = remove_doubles(study, PACKED_LEDGER)
    found = account(study)
    if found.missing:
        raise RuntimeError(f"{found.line()}: rows were lost on the way; run the same command again to pack them")
    begun = _begun(how)
    record = run_record(
        "pack",
        parameters=begun["parameters"],
        inputs={"manifest": manifest["fingerprint"]},
        rows=found.packed,
        failed=found.failed,
        packed=begun["packed"],
        bytes=size(study),
        last_attempt=attempted | {"doubles_removed": doubles},
    )
    study.write_json(record, "packed", "run.json")
