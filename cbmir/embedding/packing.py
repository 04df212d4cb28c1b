"""Which encoders share a device, and how a cluster's cores are divided between decoding and encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cbmir.errors import UserError

GPU_SHARE = (
    0.7  # of a GPU's memory for weights; the rest is for the activations of the encoder that runs, whose batch adapts
)
MEMORY_SHARE = 0.5  # of a machine's memory for weights, where encoders run on processors
COPIES = 3  # of its weights that an encoder takes on a processor: as loaded, as laid out for the kernels, and in half precision


@dataclass(frozen=True)
class Need:
    """What an encoder asks of a device."""

    name: str
    weight_bytes: int
    pixels: int  # of one image; with the weights a measure of its work

    @property
    def work(self) -> float:
        return float(self.weight_bytes) * self.pixels


@dataclass(frozen=True)
class Group:
    """Encoders that one actor holds, and the actors of that kind."""

    encoders: tuple[int, ...]  # positions among the encoders of the run
    actors: int
    gpus: float  # of each actor
    cpus: float  # that each actor asks Ray for
    threads: int  # torch threads of an actor


@dataclass(frozen=True)
class Packing:
    """`rounds` follow one another, each decoding the images again; the groups of a round run at the same time, one behind the other."""

    rounds: tuple[tuple[Group, ...], ...]
    task_cpus: float  # of a task that decodes or writes

    def decoders(self, cores: int, round_: tuple[Group, ...]) -> int:
        """Decode tasks that run at a time in the cores that the actors leave."""
        left = cores - sum(group.actors * group.cpus for group in round_)
        return max(1, int(left / self.task_cpus))


def pack(needs: Sequence[Need], found: dict[str, float], device: str, *, device_memory: int | None = None) -> Packing:
    """Encoders -> groups that fit on the devices.

    found: Ray's resources, {'CPU': cores, 'GPU': devices, 'memory': bytes}; device_memory: bytes of the smallest GPU, None where the
    weights are so few that any GPU has them.
    """
    return _on_gpus(needs, found, device_memory) if device == "cuda" else _on_cores(needs, found)


def _on_gpus(needs: Sequence[Need], found: dict[str, float], device_memory: int | None) -> Packing:
    """Small encoders share a GPU inside one actor, large ones have actors alone; GPUs left over go where the work is.

    One actor holds several encoders, instead of each having an actor with a fraction of the GPU: they take the same pixels without
    another copy, pay for one CUDA context, and do not disturb each other's forward passes.
    """
    gpus, cores = max(1, int(found["GPU"])), max(1, int(found["CPU"]))
    capacity = int(device_memory * GPU_SHARE) if device_memory else None
    bins = _bins([need.weight_bytes for need in needs], capacity)
    actor_cpus = min(1.0, cores / (4 * gpus))
    rounds = []
    for first in range(0, len(bins), gpus):
        some = bins[first : first + gpus]
        shares = _shares([sum(needs[i].work for i in members) for members in some], gpus)
        rounds.append(
            tuple(
                Group(tuple(m), actors=n, gpus=1.0, cpus=actor_cpus, threads=1)
                for m, n in zip(some, shares, strict=True)
            )
        )
    return Packing(tuple(rounds), task_cpus=1.0 if cores >= 4 * gpus else 0.5)


def _on_cores(needs: Sequence[Need], found: dict[str, float]) -> Packing:
    """All encoders in every actor: single-threaded actors, one a core up to 8 cores, then 4 threads each, as memory allows.

    Actors ask Ray for half of the cores they can use and decode tasks for half a core, so that neither can take all cores and
    starve the other (a job whose actors hold every core never reads a row).
    """
    cores = max(1, int(found["CPU"]))
    memory = int(found["memory"] * MEMORY_SHARE) or None
    bins = _bins([COPIES * need.weight_bytes for need in needs], memory)
    rounds = []
    for members in bins:
        threads = 1 if cores <= 8 else 4
        actors = max(1, cores // threads)
        size = COPIES * sum(needs[i].weight_bytes for i in members)
        if size and memory:
            actors = max(1, min(actors, memory // size))
            threads = max(threads, cores // actors)
        cpus = round(0.49 * cores / actors, 2)
        rounds.append((Group(tuple(members), actors=actors, gpus=0.0, cpus=cpus, threads=threads),))
    return Packing(tuple(rounds), task_cpus=0.5)


def _bins(sizes: Sequence[int], capacity: int | None) -> list[list[int]]:
    """Positions of `sizes` in as few bins as first-fit decreasing finds; what fills half of a bin or more is alone in it."""
    if capacity is None or sum(sizes) <= capacity:
        return [list(range(len(sizes)))]
    bins: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        place = next((b for b, left in enumerate(room) if sizes[i] <= left), None)
        if place is None:
            bins.append([])
            room.append(0 if 2 * sizes[i] >= capacity else capacity)
            place = len(bins) - 1
        bins[place].append(i)
        room[place] = max(0, room[place] - sizes[i])
    return [sorted(members) for members in bins]


def _shares(work: Sequence[float], devices: int) -> list[int]:
    """Devices to each bin, one at least, the next always to the bin that has most work a device."""
    if len(work) > devices:
        raise UserError(f"{len(work)} groups of encoders on {devices} GPUs; expected at most one a GPU")
    shares = [1] * len(work)
    for _ in range(devices - len(work)):
        shares[max(range(len(work)), key=lambda i: (work[i] / shares[i], -i))] += 1
    return shares
