"""One study asks one question of all its samples: which of those that are there were asked another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from cbmir.errors import UserError
from cbmir.exclusions import duplicates_digest
from cbmir.sampled.cells import of_index
from cbmir.sampled.options import MOST_DEPTH, TUNED, ScalingOptions
from cbmir.search import EXACT
from cbmir.store import Study, path_name

Found = tuple[tuple[str, ...], dict[str, Any]]  # address and run.json of a finished sample


def cells(study: Study) -> Iterator[Found]:
    """Each finished sample, of whatever embeddings."""
    for encoder in study.names("scaling_cells"):
        for index in study.names("scaling_cells", path_name(encoder)):
            for name in study.names("scaling_cells", path_name(encoder), path_name(index)):
                parts = ("scaling_cells", path_name(encoder), path_name(index), name)
                run = study.run_of(*parts)
                if run is not None:
                    yield parts, run


def by_date(study: Study) -> tuple[list[Found], list[Found]]:
    """Samples of the embeddings, the manifest and the duplicates that there are now, and those of others."""
    found = list(cells(study))
    now = {"manifest": study.require("manifest")["fingerprint"]}
    if any("duplicates" in run["inputs"] for _, run in found):
        now["duplicates"] = duplicates_digest(study)
    vectors = {
        encoder: (study.run_of("embeddings", f"encoder={encoder}") or {}).get("fingerprint")
        for encoder in {parts[1] for parts, _ in found}
    }
    current, outdated = [], []
    for parts, run in found:
        same = all(made == (now | {"embeddings": vectors[parts[1]]}).get(name) for name, made in run["inputs"].items())
        (current if same else outdated).append((parts, run))
    return current, outdated


def depth_for(found: Sequence[Found], galleries: Sequence[int], options: ScalingOptions) -> int:
    """Neighbors a query: as asked, else as the samples that are there have, else 100, or as many as the smallest sample has images.

    found: up-to-date samples. galleries: how many images each encoder has embedded.
    """
    if options.k is not None:
        return options.k
    least = min(size for size in (*options.sizes, *galleries, MOST_DEPTH) if size is not None)
    alike = {name: value for name, value in options.figures().items() if name != "depth"} if options.overwrite else {}
    stays = [run["parameters"] for _, run in found if alike.items() <= run["parameters"].items()]
    there = stays[0]["depth"] if stays else least
    if there <= least:
        return there
    if options.overwrite:
        return least
    raise UserError(
        f"the samples that are there have {there} neighbors a query, and the smallest of these {least} images; expected larger --sizes, or "
        f"-k {least} with --overwrite to begin anew"
    )


def studied_otherwise(
    found: Sequence[Found], encoders: Sequence[str], options: ScalingOptions
) -> list[tuple[str, ...]]:
    """Addresses of those samples whose curves would stand beside those asked for and mean something else: another question or other
    figures, or of these encoders an index by the same name that is another. UserError for the first of them unless they are to be overwritten.
    """
    others = []
    for parts, run in found:
        there, asked = run["parameters"], _asked(parts, encoders, options)
        changed = next((name for name, value in asked.items() if there.get(name) != value), None)
        if changed is None:
            continue
        if not options.overwrite:
            raise UserError(
                f"samples of {unquote(parts[1])} by {unquote(parts[2])} were studied with {_flag(changed)} {_said(there.get(changed))}, "
                f"now {_said(asked[changed])}; one study asks one question of all: give the same, or --overwrite to begin anew"
            )
        others.append(parts)
    return others


def _asked(parts: tuple[str, ...], encoders: Sequence[str], options: ScalingOptions) -> dict[str, Any]:
    """Parameters that a sample has to have, to stand beside those that are asked for."""
    index = unquote(parts[2])
    asked = options.figures()
    if index != EXACT and unquote(parts[1]) in encoders and index.removesuffix(TUNED) in options.indexes:
        asked |= of_index(index, options)
    return asked


def _flag(name: str) -> str:
    return {"depth": "-k"}.get(name, f"--{name.replace('_', '-')}")


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    return (",".join(map(str, value)) or "nothing") if isinstance(value, list) else str(value)
