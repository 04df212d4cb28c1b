"""Stage: images out of the study, wherever they are, with a proof that they are gone.

The journal is written first and deleted last, each step can be taken again, and the other stages refuse to work while it is there: a killed removal
goes on with the same command, or with none of its selection.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cbmir.datasets.presence import present
from cbmir.errors import UserError
from cbmir.origin import is_older
from cbmir.reducing.record import is_reduced, reduce_command
from cbmir.removing.figures import delete_outdated
from cbmir.removing.journal import Journal, read_journal
from cbmir.removing.layout import FIGURES, INDEXES, ROWS, TEXTS, names_of, places, words
from cbmir.removing.names import Names, leaves
from cbmir.removing.proof import Proof, all_files, look_through
from cbmir.removing.rewrite import blank_names, remove_remarks, remove_rows, rows_with
from cbmir.removing.selection import asked, of_list, of_orphans, of_predicate, read_ids
from cbmir.removing.settle import settle_index, settle_manifest, settle_rest
from cbmir.schemas import image_key
from cbmir.store import JOURNAL, Study, path_name
from cbmir.volumetric.place import is_of_volumes, slices_of


class StillThere(UserError):
    """The proof failed: files hold images that should be gone."""

    exit_code = 1


@dataclass(frozen=True)
class RemoveOptions:
    """Which images; none of the three goes on with a removal that was killed."""

    where: str | None = None  # predicate over the manifest
    ids: str | None = None  # file with one image_id a line
    orphans: bool = False  # what the manifest no longer has
    dry_run: bool = False
    check: bool = False  # only look whether the ids are gone

    def refuse_nonsense(self) -> None:
        chosen = [
            flag for flag, given in (("--where", self.where), ("--ids", self.ids), ("--orphans", self.orphans)) if given
        ]
        if len(chosen) > 1:
            raise UserError(f"{' and '.join(chosen)} together; expected one of them")
        if self.check and (self.ids is None or self.dry_run):
            raise UserError("--check looks for ids in every file and removes nothing; expected --check --ids FILE")

    @property
    def selects(self) -> bool:
        return bool(self.where or self.ids or self.orphans)


def remove(study: Study, options: RemoveOptions, *, say: Callable[[str], None] = print) -> int:
    """Remove images from every dataset and index of the study -> how many. `say` takes the lines for people.

    UserError for misuse, before anything is removed; StillThere where a file holds one of them afterwards, which leaves the removal unfinished.
    """
    options.refuse_nonsense()
    if is_of_volumes(study):
        raise UserError(
            f"--study {study.address} is a study of volumes; remove the slices from the study that they lie in, which deletes the volumes: "
            f"--study {slices_of(study).address}"
        )
    study = Study(study.address, removing=True)
    if options.check:
        return _check(study, read_ids(options.ids), say)
    journal = read_journal(study)
    if journal is not None:
        _refuse_another(study, journal, options)
        say(f"an unfinished removal of {journal.what()} goes on")
    else:
        journal = _select(study, options)
        if options.dry_run:
            _say_plan(study, journal, say)
            return 0
        if not journal.keys:
            say("there are no orphans: every dataset has images of the manifest alone")
            return 0
        journal.write(study)
    _carry_out(study, journal)
    proof = look_through(study, journal.key_array, journal.named())
    _refuse_rest(proof, f"removing {journal.what()} is unfinished", "delete them, and run the same command again")
    study.delete(JOURNAL)
    _say_done(study, journal, proof, say)
    return journal.images


def _select(study: Study, options: RemoveOptions) -> Journal:
    if options.where:
        return of_predicate(study, options.where)
    if options.ids:
        return of_list(study, options.ids)
    if options.orphans:
        return of_orphans(study)
    study.require("manifest")
    raise UserError("no image is selected, and no removal is unfinished; expected --where SQL, --ids FILE or --orphans")


def _refuse_another(study: Study, journal: Journal, options: RemoveOptions) -> None:
    given = asked(options.where, options.ids, options.orphans)
    if options.dry_run or (options.selects and given != journal.selection):
        raise UserError(
            f"another removal, of {journal.what()}, is unfinished; finish it first with: cbmir remove --study {study.address}"
        )


def _carry_out(study: Study, journal: Journal) -> None:
    """Every step of the removal; each finds done what it has done before."""
    keys, names = journal.key_array, journal.named()
    _stop_writers(study)
    _delete_debris(study)
    _delete_reduced(study, names)
    for parts in places(study, TEXTS):
        remove_remarks(study, parts, Names([*journal.names, *journal.loose_names]))
    for parts in places(study, ROWS):
        remove_rows(study, parts, keys)
    blank_names(study, ("manifest",), pa.array(journal.names, pa.string()))
    settle_manifest(study)
    delete_outdated(study)
    settle_rest(study, journal.before)
    for parts in places(study, INDEXES):
        _remove_from_index(study, parts, keys, names, journal.before)


def _stop_writers(study: Study) -> None:
    """A task of a killed run that wakes up late finds another attempt's name, and writes nothing."""
    for parts in (*places(study, {"embeddings": 1}), *places(study, {"packed": 0})):
        started = study.read_json(*parts, "started.json")
        if started is not None and "attempt" in started:
            study.write_json(started | {"attempt": uuid.uuid4().hex}, *parts, "started.json")


def _delete_debris(study: Study) -> None:
    """What killed runs have left: lists of what was to do, datasets half written or half replaced, files half written."""
    study.delete(".staging")
    for path in all_files(study):
        if ".tmp-" in path.rsplit("/", 1)[1]:
            study.fs.delete_file(path)


def _delete_reduced(study: Study, names: Names) -> None:
    """Reduced embeddings whose own predicates name one of the images, with their failures and indexes."""
    for parts in places(study, {"embeddings": 1}):
        run = study.run_of(*parts)
        if run is not None and is_reduced(run) and _names_one(run, names):
            study.delete("index", path_name(*names_of(parts)))
            study.delete("failures", parts[1])
            study.delete(*parts)


def _names_one(run: dict[str, Any], names: Names) -> bool:
    return any(names.first_in(text) for text in leaves(run) if isinstance(text, str))


def _remove_from_index(
    study: Study, parts: tuple[str, ...], keys: pa.Array, names: Names, before: dict[str, str]
) -> None:
    """Forget the images; an index whose own gallery predicate names one of them is deleted."""
    from cbmir.indexing.forget import forget

    if _names_one(study.run_of(*parts) or {}, names):
        study.delete(*parts)
        return
    forget(study, *names_of(parts), keys.to_numpy())
    settle_index(study, parts, before)


def _check(study: Study, ids: list[str], say: Callable[[str], None]) -> int:
    study.require("manifest")
    keys = pa.array(map(image_key, ids), pa.int64())
    proof = look_through(study, keys, Names(ids))
    _refuse_rest(proof, f"of {len(ids):,} ids, some are in the study", "remove them with: cbmir remove --ids FILE")
    say(f"{len(ids):,} ids: {proof.files:,} files looked through, none holds them")
    _say_unread(proof, say)
    return 0


def _refuse_rest(proof: Proof, what: str, advice: str) -> None:
    if proof.found:
        more = f" and {len(proof.found) - 1:,} more" if len(proof.found) > 1 else ""
        raise StillThere(f"{what}: found in {proof.found[0]}{more}; expected nothing; {advice}")


def _say_plan(study: Study, journal: Journal, say: Callable[[str], None]) -> None:
    say(f"would remove {journal.what()}")
    for parts in places(study, ROWS):
        rows = sum(rows_with(study, study.files(*parts), journal.key_array).values())
        if rows:
            say(f"{words(parts)}: {rows:,} rows")
    for parts in places(study, INDEXES):
        say(f"{words(parts)}: forgets them")
    if journal.images:
        for parts in places(study, FIGURES):
            say(f"{words(parts)}: deleted, to be made again")
    say("nothing was removed (--dry-run)")


def _say_done(study: Study, journal: Journal, proof: Proof, say: Callable[[str], None]) -> None:
    say(f"removed {journal.what()}: {proof.files:,} files looked through, none holds them")
    _say_unread(proof, say)
    again = list(dict.fromkeys(made["command"] for made in journal.again if not study.exists(*made["target"])))
    if again:
        say("deleted, because these images may be in it; make it again with:")
        for command in again:
            say(f"  {command}")
    fitted = [
        run for parts in places(study, {"embeddings": 1}) if (run := study.run_of(*parts)) and is_older(study, run)
    ]
    if fitted:
        say("fitted to images with these among them, and refused until fitted again with:")
        for run in fitted:
            say(f"  {reduce_command(study, run['parameters'])}")
    local = [address for address in journal.addresses if "://" not in address]
    there = pa.array(local, pa.string()).filter(present(pa.array(local, pa.string()))).to_pylist()
    if there:
        say(
            f"note: the files of {len(there):,} of these images are still at the source, first {there[0]}: "
            "cbmir manifest brings them back unless they are deleted there, too"
        )
    elif journal.images:
        say("note: cbmir manifest brings back what the source still has or lists: take these images out there, too")


def _say_unread(proof: Proof, say: Callable[[str], None]) -> None:
    if proof.unread:
        say(
            f"note: {len(proof.unread):,} files are none of cbmir's and were not looked through, first {proof.unread[0]}"
        )
