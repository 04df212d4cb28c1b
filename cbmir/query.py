"""`cbmir query`: images -> their neighbors, printed one by one as they are found, and saved as tables or a page."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from cbmir.errors import TooManyFailures, UserError
from cbmir.progress import Progress
from cbmir.querying.answers import Answer, refuse_bad_outputs, save_knn, save_table, save_text, text
from cbmir.store import Study

MANY = 20  # images, from which on it is said how far one is


@dataclass(frozen=True)
class QueryOptions:
    """What a person says about a lookup."""

    index: str | None = None  # None: the encoder's only index, exact where it has none or several
    k: int = 10
    gallery: str | None = None  # None: the index's own; split = 'train' for exact
    device: str = "auto"
    csv: str | None = None  # knn.csv of the published tool
    table: str | None = None  # a row a neighbor, .csv or .parquet
    html: str | None = None

    @property
    def saves(self) -> bool:
        return bool(self.csv or self.table or self.html)


def query(study: Study, encoder: str, images: list[str], options: QueryOptions) -> None:
    """Print the neighbors of each image file, or of each in a directory, as soon as they are found; then save what was asked for.

    Answers go to standard output, everything else to standard error. UserError for misuse before the encoder is built, and where no
    image can be read; TooManyFailures, after all others are answered and saved, where some cannot.
    """
    began = time.perf_counter()
    from cbmir.lookup import Lookup  # imports torch, which takes its part of the loading
    from cbmir.querying.inputs import from_arguments

    refuse_bad_outputs(table=options.table, files=(options.csv, options.html))
    lookup = Lookup(study, encoder, options.index, gallery=options.gallery, device=options.device)
    asked = from_arguments(images, say=say)
    answers = lookup.answers(asked, k=options.k)
    lookup.load()
    say(
        f"query: {lookup.encoder}, index {lookup.index}, {len(lookup.keys):,} images of the gallery {lookup.gallery.predicate}"
    )
    loaded = time.perf_counter()
    kept = printed(answers, len(asked), text, keep=options.saves)
    if not all(answer.error for answer in kept) or len(kept) < len(asked):
        save(kept, options, save_table, _page, title=f"{lookup.encoder}, {lookup.index}")
    finish(kept, len(asked), "image", began=began, loaded=loaded)


def printed(answers: Iterator[Answer], total: int, text: Callable[[Answer], str], *, keep: bool) -> list[Answer]:
    """Print each answer -> all of them, or only those of which something could not be read."""
    kept, failed = [], 0
    with ExitStack() as stack:
        # a bar among the answers on a terminal would be in their way, and they show themselves how far it is
        counts = total >= MANY and not sys.stdout.isatty()
        progress = stack.enter_context(Progress("query", total)) if counts else None
        for done, answer in enumerate(answers, 1):
            print(text(answer), flush=True)
            failed += bool(answer.error)
            if keep or answer.error or answer.left_out:
                kept.append(answer)
            if progress:
                progress.update(done, failed)
    return kept


def _page(answers: list[dict], *, title: str) -> str:
    from cbmir.report import query_page  # charts are not loaded for an answer on a terminal

    return query_page(answers, title=title)


def save(answers: list[Answer], options: QueryOptions, table: Callable, page: Callable, *, title: str) -> None:
    """What was asked for; `table` writes (answers, path), `page` makes HTML of (dicts, title=)."""
    if options.csv:
        save_knn(answers, options.csv, k=options.k)
    if options.table:
        table(answers, options.table)
    if options.html:
        save_text(page([answer.as_dict() for answer in answers], title=title), options.html)
        say(f"page: {options.html} (it holds pictures from the study)")


def finish(kept: list[Answer], total: int, what: str, *, began: float, loaded: float) -> None:
    """Say how long `total` images or volumes took; UserError where none can be read, TooManyFailures where some, or some of their slices, cannot."""
    each = 1000 * (time.perf_counter() - loaded) / total
    say(f"loaded in {loaded - began:.1f} s; {total:,} {what}{'s' if total > 1 else ''}, {each:.0f} ms each")
    failed = [answer for answer in kept if answer.error]
    if failed:
        first = f"the first, {failed[0].name}: {failed[0].error}"
        if len(failed) == total:
            raise UserError(f"none of the {total:,} {what}s can be read; {first}")
        raise TooManyFailures(f"{len(failed):,} of {total:,} {what}s cannot be read; {first}; the others are answered")
    lacking = [answer for answer in kept if answer.left_out]
    if lacking:
        count = sum(len(answer.left_out) for answer in lacking)
        raise TooManyFailures(
            f"{count:,} slices of {len(lacking):,} {what}s are left out; the first, {lacking[0].name}: {lacking[0].left_out[0]}; the others are asked with"
        )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
