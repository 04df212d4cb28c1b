"""`cbmir query --volumes`: slices and volumes -> the nearest volumes and the slices that match, printed one by one, and saved as tables or a page."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cbmir.errors import UserError
from cbmir.query import QueryOptions, finish, printed, save, say
from cbmir.querying.answers import refuse_bad_outputs
from cbmir.querying.volume_answers import save_pairs, text
from cbmir.store import Study

_LATE = "late"  # what `--index` may say


@dataclass(frozen=True)
class VolumeQueryOptions(QueryOptions):
    """What a person says about a lookup of volumes: index is late or exact, as they are found by all of their slices, exactly; gallery is over their manifest."""

    matches: int = 3  # pairs of slices of each volume found


def query_volumes(
    study: Study, encoder: str, arguments: list[str], options: VolumeQueryOptions, *, ids: list[str], slices: str | None
) -> None:
    """Print the nearest volumes of each query as soon as they are found; then save what was asked for.

    arguments: files, parts of files, ranges, directories. ids: volumes of the study, of which `slices` ('20-40') or all. Output and errors as those of `query`.
    """
    began = time.perf_counter()
    from cbmir.querying.volume_inputs import stored_volumes, volumes_from_arguments
    from cbmir.volume_lookup import VolumeLookup  # imports torch, which takes its part of the loading

    refuse_bad_outputs(table=options.table, files=(options.csv, options.html))
    refuse_nonsense(options.index, slices, ids)
    if not arguments and not ids:
        raise UserError("nothing to ask with; expected a volume, a slice, a directory of DICOM files, or --volume ID")
    lookup = VolumeLookup(study, encoder, gallery=options.gallery, device=options.device)
    asked = volumes_from_arguments(arguments, say=say) + stored_volumes(ids, slices)
    answers = lookup.answers(asked, k=options.k, matches=options.matches)
    lookup.load()
    count = len(lookup.keys)
    said = f"{count:,} volume{'s' if count != 1 else ''} of the gallery {lookup.gallery.predicate}"
    say(f"query: {lookup.encoder}, by all slices of {said}")
    loaded = time.perf_counter()
    kept = printed(answers, len(asked), text, keep=options.saves)
    if not all(answer.error for answer in kept) or len(kept) < len(asked):
        save(kept, options, save_pairs, _page, title=f"{lookup.encoder}, volumes")
    finish(kept, len(asked), "volume", began=began, loaded=loaded)


def _page(answers: list[dict], *, title: str) -> str:
    from cbmir.report import volume_query_page

    return volume_query_page(answers, title=title)


def refuse_nonsense(index: str | None, slices: str | None, ids: list[str]) -> None:
    """UserError for what is not said of volumes."""
    if index not in (None, "exact", _LATE):
        raise UserError(f"--index {index}; volumes are found by all of their slices, exactly; leave it out")
    if slices is not None and not ids:
        raise UserError(
            f"--slices {slices} is of volumes of the study; expected --volume ID; of a file: FILE#axis=2&slice={slices}"
        )
