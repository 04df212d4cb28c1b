"""Progress for people: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time

LOG_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """done / total, rate and time left of one stage, on standard error."""

    def __init__(self, title: str, total: int, *, unit: str = "images", stream=None) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.stream = stream or sys.stderr
        self.started = time.monotonic()
        self.last_line = self.started
        self.done = 0
        self.failed = 0
        self._first: tuple[float, int] | None = None  # when the first results were there, and how many
        self._bar = None
        if self.stream.isatty():
            self._bar, self._task = _rich_bar(title, total, self.stream)
            self._bar.start()

    def update(self, done: int, failed: int = 0, note: str = "") -> None:
        """Set how far the stage is; prints a log line at most every LOG_EVERY seconds."""
        self.done, self.failed = min(done, self.total), failed
        if self._first is None and done:
            self._first = (time.monotonic(), done)
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=self._told(note))
        elif time.monotonic() - self.last_line >= LOG_EVERY:
            self.last_line = time.monotonic()
            print(self.line(note), file=self.stream, flush=True)

    def advance(self, more: int) -> None:
        """Set how far the stage is by how much it has got on."""
        self.update(self.done + more)

    def line(self, note: str = "") -> str:
        """'embed: 640 / 1,500 images, 43.1/s, 0:00:20 left, 2 failed'."""
        return ", ".join(filter(None, (f"{self.title}: {self.done:,} / {self.total:,} {self.unit}", self._told(note))))

    def rate(self) -> float:
        """Items a second since the first results, so that loading a model does not count; 0 before there is a rate."""
        if self._first is None or self.done <= self._first[1]:
            return 0.0
        return (self.done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)

    def _told(self, note: str) -> str:
        """'43.1/s, 0:00:20 left, 2 failed, ' and the note."""
        rate = self.rate()
        speed = f"{rate:,.1f}/s" if rate else ""
        left = f"{clock((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        failed = f"{self.failed:,} failed" if self.failed else ""
        return ", ".join(filter(None, (speed, left, failed, note)))

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def clock(seconds: float) -> str:
    """75.2 -> '0:01:15'."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _rich_bar(title: str, total: int, stream):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(file=stream),
        transient=True,
    )
    return bar, bar.add_task(title, total=total, note="")
