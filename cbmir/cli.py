"""The commands: flags -> one call of a stage -> lines for people and an exit code.

0: done; 1: a defect of cbmir, or images that `remove` looked for and found; 2: misuse, or storage that is full or silent, with one line that
says what to do; 3: done, but more images failed than --max-failures allows (cbmir query: any that cannot be read); 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable

from cbmir.cli_studies import STUDIES, run_as_published
from cbmir.cli_volumes import VOLUMES, query_volumes
from cbmir.errors import UserError
from cbmir.flags import parse
from cbmir.flags.typed import embed_options, evaluate_options, index_options, options_of, reach
from cbmir.patience import StorageError, named, storage_line
from cbmir.schemas import ContractError
from cbmir.store import Study


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except (UserError, ContractError) as error:
        return _say(error, f"cbmir {arguments.command}: {error}", error.exit_code, arguments.debug)
    except KeyboardInterrupt as error:
        return _say(
            error,
            f"cbmir {arguments.command}: interrupted; the same command goes on where it stopped",
            130,
            arguments.debug,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone, as with `| head`
        return 0
    except (NotADirectoryError, IsADirectoryError, PermissionError, FileNotFoundError) as error:
        line = f"cbmir {arguments.command}: {error.strerror or error}: {error.filename or ''}; expected a place to read or write"
        return _say(error, line, 2, arguments.debug)
    except Exception as error:
        said = storage_line(error, named(getattr(arguments, "study", None) or "the storage"))
        if said is not None:
            return _say(error, f"cbmir {arguments.command}: {said}", StorageError.exit_code, arguments.debug)
        first = " ".join(str(error).split())[:300]
        line = f"cbmir {arguments.command}: unexpected {type(error).__name__}: {first}; see the traceback with --debug"
        return _say(error, line, 1, arguments.debug)
    return 0


def _say(error: BaseException, line: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(line, file=sys.stderr)
    return code


def _manifest(a: argparse.Namespace) -> None:
    from cbmir.datasets.manifest import manifest_lines, write_manifest
    from cbmir.flags.source import source_options

    run, written = write_manifest(Study(a.study), a.source, a.roots, source_options(a), overwrite=a.overwrite)
    print("\n".join(manifest_lines(run, written, a.study)))


def _manifest_check(a: argparse.Namespace) -> None:
    from cbmir.inspection import InspectionOptions, inspect

    inspect(Study(a.study), options_of(InspectionOptions, a))


def _phantoms(a: argparse.Namespace) -> None:
    from cbmir.phantoms import draw_collection
    from cbmir.progress import Progress

    with Progress("phantoms", a.images) as progress:
        made = draw_collection(
            a.directory, images=a.images, seed=a.seed, broken=a.broken, report=lambda done, _: progress.update(done)
        )
    print(
        f"phantoms: {made['images']:,} drawn images of {made['patients']:,} patients with {made['labels']} labels in {a.directory}, "
        f"{made['broken']} of them broken on purpose"
    )


def _pack(a: argparse.Namespace) -> None:
    from cbmir.pack import PackOptions, pack_images

    pack_images(Study(a.study), options_of(PackOptions, a))


def _embed(a: argparse.Namespace) -> None:
    from cbmir.embed import embed

    embed(Study(a.study), a.encoder, embed_options(a))


def _embeddings_import(a: argparse.Namespace) -> None:
    from cbmir.importing import ImportOptions, import_embeddings

    import_embeddings(Study(a.study), a.encoder, a.files, options_of(ImportOptions, a, dtype=a.dtype_stored))


def _reduce(a: argparse.Namespace) -> None:
    from cbmir.reduce import ReduceOptions, reduce_embeddings, reduce_line

    for encoder in a.encoder:
        print(reduce_line(*reduce_embeddings(Study(a.study), encoder, options_of(ReduceOptions, a))))


def _remove(a: argparse.Namespace) -> None:
    from cbmir.removal import RemoveOptions, remove

    remove(Study(a.study), options_of(RemoveOptions, a))


def _index(a: argparse.Namespace) -> None:
    from cbmir.index import build_index, index_line

    for encoder in a.encoder:
        run, built = build_index(Study(a.study), encoder, a.index, index_options(a))
        print(index_line(encoder, a.index, run, built))


def _search(a: argparse.Namespace) -> None:
    from cbmir.search import SearchOptions, search

    options = SearchOptions(
        k=a.depth,
        gallery=a.gallery,
        queries=a.queries,
        exclude_same=tuple(a.exclude_same),
        metric=a.metric,
        expansion_search=a.expansion_search,
        rerank=a.rerank,
        tasks=a.tasks,
        ray_address=a.ray_address,
        device=a.device,
        overwrite=a.overwrite,
        save_as=a.save_as,
    )
    for encoder in a.encoder:
        run, searched = search(Study(a.study), encoder, a.index, options)
        print(search_line(encoder, a.save_as or a.index, run, searched))


def search_line(encoder: str, index: str, run: dict, searched: bool) -> str:
    missing = run["queries_not_embedded"]
    failed = f", {missing:,} queries not embedded" if missing else ""
    state = f"{run['seconds']:.1f} s" if searched else "already searched"
    return f"search {index} of {encoder}: {run['queries']:,} queries in {run['gallery']:,} images{failed}, {state}"


def _evaluate(a: argparse.Namespace) -> None:
    from cbmir.evaluate import as_published, evaluate
    from cbmir.evaluating.options import EvaluateOptions

    if a.as_published:
        as_published(Study(a.study), a.as_published)
        return
    options = EvaluateOptions(
        metrics=tuple(a.metric) if a.metric else None,
        slices=tuple(a.slice) if a.slice else None,
        permutations=a.permutations,
        seed=a.seed,
        **evaluate_options(a),
    )
    run = evaluate(Study(a.study), options)
    print(f"metrics: {run['rows']:,} figures of {len(run['inputs'])} searches")


def _probe(a: argparse.Namespace) -> None:
    from cbmir.probe import ProbeOptions, probe

    for encoder in a.encoder:
        probe(Study(a.study), encoder, options_of(ProbeOptions, a))


def _report(a: argparse.Namespace) -> None:
    from cbmir.report import leaderboard, leaderboard_text, write_figures, write_report

    study = Study(a.study)
    path = write_report(study, examples=a.examples, seed=a.seed)
    if board := leaderboard(study):
        print(leaderboard_text(board))
    print(f"report: {path}")
    charts = write_figures(study)
    print(f"figures: {study.path('figures')} ({len(charts)} files)")
    if a.paper:
        from cbmir.paper import write_paper

        write_paper(study)


def _run(a: argparse.Namespace) -> None:
    from cbmir.evaluating.options import EvaluateOptions
    from cbmir.flags.published import refuse_as_published_flags
    from cbmir.flags.source import source_options
    from cbmir.run import RunOptions, run
    from cbmir.search import SearchOptions

    if a.as_published:
        run_as_published(a)
        return
    refuse_as_published_flags(a)
    if a.source and not a.roots:
        raise UserError(f"source {a.source} without ROOT; expected cbmir run SOURCE ROOT... --study DIR")
    search = SearchOptions(
        k=a.depth,
        gallery=a.gallery,
        queries=a.queries,
        exclude_same=tuple(a.exclude_same),
        metric=a.metric,
        device=a.device,
        overwrite=a.overwrite,
    )
    options = RunOptions(
        source=a.source,
        roots=a.roots,
        source_options=source_options(a),
        embed=embed_options(a),
        index=index_options(a),
        search=search,
        indexes=tuple(a.index or ("exact", "hnsw")),
        evaluate=EvaluateOptions(**evaluate_options(a)),
    )
    run(Study(a.study), a.encoder, options)


def _sql(a: argparse.Namespace) -> None:
    from cbmir.session import ask

    ask(Study(a.study), a.statement, csv=a.csv, parquet=a.parquet)


def _query(a: argparse.Namespace) -> None:
    from cbmir.query import QueryOptions, query

    if a.volumes or a.volume:
        query_volumes(a)
        return
    for flag, value in (("--slices", a.slices), ("--matches", a.matches)):
        if value is not None:
            raise UserError(f"{flag} {value} is of volumes; expected --volumes or --volume ID with it")
    if not a.images:
        raise UserError("nothing to ask with; expected an image or a directory of images")
    options = options_of(QueryOptions, a)
    query(Study(a.study), a.encoder, a.images, options)


def _encoders(a: argparse.Namespace) -> None:
    from cbmir.encoders.listing import listing, one

    print(one(a.name, reach(a)) if a.name else listing(reach(a)))


def _encoders_fetch(a: argparse.Namespace) -> None:
    from cbmir.encoders.check import fetch_all

    for line in fetch_all(a.names, reach(a)):
        print(line, flush=True)


def _encoders_check(a: argparse.Namespace) -> None:
    from cbmir.encoders.check import CheckOptions, check_all

    for line in check_all(a.names, options_of(CheckOptions, a, compiled=a.compile, reach=reach(a))):
        print(line, flush=True)


def _doctor(a: argparse.Namespace) -> None:
    from cbmir.doctor import examine

    for finding in examine(Study(a.study) if a.study else None):
        print(finding)


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "manifest": _manifest,
    "manifest check": _manifest_check,
    "phantoms": _phantoms,
    "pack": _pack,
    "embed": _embed,
    "embeddings import": _embeddings_import,
    "reduce": _reduce,
    "remove": _remove,
    "index": _index,
    "search": _search,
    "evaluate": _evaluate,
    "probe": _probe,
    **STUDIES,
    **VOLUMES,
    "report": _report,
    "run": _run,
    "sql": _sql,
    "query": _query,
    "encoders": _encoders,
    "encoders fetch": _encoders_fetch,
    "encoders check": _encoders_check,
    "doctor": _doctor,
}
