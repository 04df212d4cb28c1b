"""What a person sees of a running pipeline: how far it is, what it waits for, and that its memory spills."""

from __future__ import annotations

import copy
import sys
import threading
import time

import ray

from cbmir.cluster import spilled_bytes
from cbmir.embedding.tally import Counts, Crew, bottleneck
from cbmir.progress import Progress

EVERY = 0.5  # seconds between two looks
WINDOW = 10.0  # seconds over which the bottleneck is judged


class Watch:
    """A thread that asks the tally while the pipeline runs."""

    def __init__(self, tally, progress: Progress, encoders: list[str], crew: Crew) -> None:
        self.tally, self.progress = tally, progress
        self.encoders, self.crew = encoders, crew
        self.before: tuple[float, Counts] = (time.monotonic(), Counts())
        self.note = "loading encoders"
        self.spilled = spilled_bytes()
        self.warned = False
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(EVERY):
            try:
                counts = ray.get(self.tally.read.remote(), timeout=5)
            except ray.exceptions.RayError:
                continue  # progress is for people: the run itself says what is wrong
            self._judge(counts)
            self.progress.update(counts.done(), counts.failed, self.note)

    def _judge(self, counts: Counts) -> None:
        """Once a WINDOW: what the run waits for, and whether the object store spills."""
        since, before = self.before
        if counts.spans and not before.spans:
            self.note = ""  # the encoders are there
        if time.monotonic() - since < WINDOW and before.spans:
            return
        if counts.spans and counts.done() > before.done():
            self.note = f"bottleneck: {bottleneck(counts, self.encoders, self.crew, before=before)}"
        self.before = (time.monotonic(), copy.deepcopy(counts))
        if not self.warned and spilled_bytes() > self.spilled:
            self.warned = True
            print(SPILLS, file=sys.stderr, flush=True)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop.set()
        self.thread.join()


SPILLS = (
    "embed: Ray's object store is full and spills to disk, which is slow; give Ray more memory (ray start --object-store-memory), "
    "or use --batch-size 16 or fewer --decode-workers"
)
