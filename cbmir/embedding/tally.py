"""What a run's workers tell of themselves: rows that passed, and where the time went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ENOUGH = 0.85  # of the devices' time: encoders that compute this much of it are what the run waits for


@dataclass
class Counts:
    """Everything told so far.

    decoded, written: rows. encoded: rows behind each group of encoders, by its first one. forward: seconds of forward passes by
    encoder. enlarged: images that are smaller than the detail asked for, by that detail. seconds: of all workers together, by what they were spent on. spans: of each actor, from its first block to its last.
    """

    decoded: int = 0
    written: int = 0
    failed: int = 0
    encoded: Counter[int] = field(default_factory=Counter)
    forward: Counter[int] = field(default_factory=Counter)
    enlarged: Counter[int] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    def done(self) -> int:
        """Rows that have passed all encoders."""
        return min(self.encoded.values(), default=0)

    def first(self) -> float:
        """When an actor took the first block, in seconds since 1970."""
        return min((begin for begin, _ in self.spans.values()), default=0.0)

    def wall(self) -> float:
        """Seconds from the first block that an actor took to the last one that it gave back."""
        if not self.spans:
            return 0.0
        return max(end for _, end in self.spans.values()) - self.first()


@dataclass(frozen=True)
class Crew:
    """Who works on a run. A device is a GPU, or an actor where encoders run on the processor's cores."""

    devices: int
    cores: int
    on_cores: bool


class Tally:
    """The actor that counts; workers tell it without waiting."""

    def __init__(self) -> None:
        self.counts = Counts()

    def decoded(self, rows: int, seconds: dict[str, float], enlarged: dict[int, int]) -> None:
        self.counts.decoded += rows
        self.counts.enlarged.update(enlarged)
        self.counts.seconds.update(seconds)

    def encoded(
        self, actor: str, rows: int, failed: int, forward: dict[int, float], began: float, ended: float
    ) -> None:
        self.counts.encoded[min(forward)] += rows
        self.counts.failed += failed
        self.counts.forward.update(forward)
        self.counts.seconds["pass on"] += max(0.0, ended - began - sum(forward.values()))
        first, last = self.counts.spans.get(actor, (began, ended))
        self.counts.spans[actor] = (min(first, began), max(last, ended))

    def wrote(self, rows: int, seconds: float) -> None:
        self.counts.written += rows
        self.counts.seconds["write"] += seconds

    def read(self) -> Counts:
        return self.counts

    @classmethod
    def make(cls):
        """A Tally in an actor of its own."""
        import ray

        return ray.remote(num_cpus=0, max_restarts=-1)(cls).remote()


def summary(counts: Counts, encoders: list[str], crew: Crew, *, began: float, ended: float) -> dict[str, Any]:
    """What is kept of a run and printed at its end.

    saturation: forward passes' share of the devices' time, from the first block to the last.
    began, ended: of the whole run, in seconds since 1970. seconds_by: worker-seconds; wait: of the devices, for anything else than forward passes.
    """
    wall, done = counts.wall(), counts.done()
    forward = {encoders[i]: round(spent, 2) for i, spent in sorted(counts.forward.items())}
    computing = sum(counts.forward.values())
    rate = done / wall if wall else 0.0
    by = {name: round(counts.seconds.get(name, 0.0), 2) for name in ("read", "decode", "resize", "pass on", "write")}
    return {
        "images": done,
        "seconds": round(ended - began, 2),
        "start_up_seconds": round(max(0.0, counts.first() - began), 2),
        "images_per_second": round(rate, 2),
        "images_per_second_and_device": round(rate / crew.devices, 2),
        "images_per_second_and_core": round(rate / crew.cores, 2),
        "devices": crew.devices,
        "cores": crew.cores,
        "saturation": round(computing / (wall * crew.devices), 3) if wall else 0.0,
        "seconds_by": by | {"forward": forward, "wait": round(max(0.0, wall * crew.devices - computing), 2)},
        "bottleneck": bottleneck(counts, encoders, crew),
        "enlarged": {str(detail): count for detail, count in sorted(counts.enlarged.items())},
    }


def bottleneck(counts: Counts, encoders: list[str], crew: Crew, *, before: Counts | None = None) -> str:
    """What a faster run would need more of: 'forward of NAME', 'decode', 'resize', 'read', 'write', or 'loading encoders'.

    before: an earlier reading, since when is asked. Devices that compute nearly all the time are the bottleneck; else what the other
    workers spend most on is. Where encoders run on the cores that decode, it is what takes most of them.
    """
    forward = counts.forward - (before.forward if before else Counter())
    seconds = counts.seconds - (before.seconds if before else Counter())
    if not counts.spans:
        return "loading encoders"
    span = counts.wall() - (before.wall() if before else 0.0)
    most, spent = max(forward.items(), key=lambda item: item[1], default=(None, 0.0))
    computing = sum(forward.values())
    others = {name: seconds[name] for name in ("read", "decode", "resize", "write")}
    slowest = max(others, key=lambda name: others[name])
    busy = computing >= (others[slowest] if crew.on_cores else ENOUGH * span * crew.devices)
    if most is not None and (busy or not others[slowest]):
        return f"forward of {encoders[most]}" if len(forward) > 1 and spent < computing else "forward"
    return slowest


def in_words(found: dict[str, Any]) -> list[str]:
    """`summary` as two lines for people."""
    by = found["seconds_by"]
    parts = {name: spent for name, spent in by.items() if name not in ("forward", "wait")}
    parts |= {"forward": sum(by["forward"].values())}
    total = sum(parts.values()) or 1.0
    shares = ", ".join(f"{name} {100 * spent / total:.0f} %" for name, spent in parts.items())
    return [
        f"{found['images']:,} images in {found['seconds']:,.1f} s, of which {found['start_up_seconds']:,.1f} s to start: "
        f"{found['images_per_second']:,.1f} images/s, {found['images_per_second_and_device']:,.1f} a device, "
        f"{found['images_per_second_and_core']:,.1f} a core; devices computed {100 * found['saturation']:.0f} % of the time",
        f"the workers' time: {shares}; bottleneck: {found['bottleneck']}",
    ]
