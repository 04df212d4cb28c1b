"""How to make this study again: the commands of every stage in their order, what stands for what they do not name, seeds and versions."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from typing import Any

import pyarrow.compute as pc

from cbmir.commands import line, reduce_words, words_of
from cbmir.report.recipe_volumes import (
    embeddings_of_slices,
    inside,
    made_of_slices,
    searched_by_slices,
    slices_if_volumes,
)
from cbmir.report.sources import Sources, bare
from cbmir.store import path_name

STUDY = "STUDY"
IMAGES, TABLE, SALT, WEIGHTS, VECTORS = "IMAGES_DIR", "TABLE", "SALT_FILE", "WEIGHTS_FILE", "VECTORS_DIR"
_MEANS = {
    STUDY: "the directory of the study that is made: any name",
    IMAGES: "where the images lie; this page names no path of theirs",
    TABLE: "the table, or the tables, that name the images",
    SALT: "the salt of the hashed ids, salt.hex in the study's directory unless one was given; without it ids differ, and the order of equal distances with them",
    WEIGHTS: "a file of weights that was given; its SHA-256 is among the parameters below",
    VECTORS: "where the published files of vectors lie",
}
_TABLES = {"csv", "denner-csv"}  # sources whose ROOT is a table
_PUBLIC = ("hf://", "https://", "http://")
_MOST_FAILURES = 0.01  # what the stages allow unless told otherwise
_STUDIES = ("scaling", "search_effort", "image_sizes")  # whose run.json says in `commands` what was asked for


def recipe(sources: Sources, *, examples: int, seed: int) -> dict[str, Any]:
    """{commands: lines to copy, placeholders: (word, meaning), remarks, seeds: (what, value)}."""
    report = ["cbmir", "report", "--study", STUDY, "--examples", str(examples), "--seed", str(seed)]
    lists = [*_before_figures(sources), *_figures(sources), report]
    if slices := slices_if_volumes(sources):
        embedded = _vectors(embeddings_of_slices(sources, slices))
        before = [_manifest(slices.require("manifest")), *embedded, *made_of_slices(sources, STUDY)]
        lists = [*before, *(inside(words, STUDY) for words in lists)]
    else:
        lists = [_manifest(sources.manifest_run), *lists]
    shown = [[bare(word) for word in words] for words in lists]  # predicates may name addresses
    said = {piece for words in shown for word in words for piece in word.replace("=", "/").split("/")}
    return {
        "commands": [line(words) for words in shown],
        "placeholders": [(name, meaning) for name, meaning in _MEANS.items() if name in said],
        "remarks": _remarks(sources, shown),
        "seeds": [*_seeds(sources), ("queries that the gallery shows", str(seed))],
    }


def _manifest(run: dict[str, Any]) -> list[str]:
    """cbmir manifest SOURCE ROOT, with the options that differ from their defaults."""
    said = run["parameters"]
    source = said["source"]
    words = ["cbmir", "manifest", source, TABLE if source in _TABLES else IMAGES, "--study", STUDY]
    for flag, key in (("--column", "columns"), ("--set", "constants")):
        for name, value in (said.get(key) or {}).items():
            words += [flag, f"{name}={value}"]
    for column in said.get("one_hot") or ():
        words += ["--one-hot", column]
    for dataset in said.get("image_root") or {}:
        words += ["--image-root", f"{dataset}={IMAGES}" if dataset else IMAGES]
    for key in ("separator", "axis", "every", "protocol", "missing_images", "seed"):
        if said.get(key) is not None:
            words += [f"--{key.replace('_', '-')}", str(said[key])]
    if said.get("window"):
        words += ["--window", ",".join(f"{number:g}" for number in said["window"])]
    if said.get("deidentify") is not None:
        words.append("--deidentify" if said["deidentify"] else "--no-deidentify")
    if any("salted" in note for note in said.get("notes", ())):
        words += ["--salt-file", SALT]
    return words


def _before_figures(sources: Sources) -> list[list[str]]:
    """Everything that a search needs: the check for duplicates if one was used, packed images, vectors, indexes."""
    study = sources.study
    lists = [_check(sources)] if _uses_duplicates(sources) else []
    runs = _embeddings(sources)
    if any(run.get("packed") for run in runs.values()) and (packed := study.run_of("packed")):
        lists.append(words_of("packed", [], packed, STUDY) + _failures(packed))
    lists += _vectors(runs)
    indexes = []
    for encoder, index in dict.fromkeys((e, run["parameters"]["index"]) for (e, _), run in _searches(sources).items()):
        built = study.run_of("index", path_name(encoder), path_name(index)) if index != "exact" else None
        if built:
            indexes.append(words_of("index", [encoder, index], built, STUDY))
    return lists + _together(indexes)


def _vectors(runs: dict[str, dict[str, Any]]) -> list[list[str]]:
    """What made each encoder's vectors, those of images before those that are made of them."""
    lists = _together([_embed(name, run) for name, run in runs.items() if run["stage"] == "embed"])
    lists += [_import(run) for run in runs.values() if run["stage"] == "import"]
    return lists + [reduce_words(run["parameters"], STUDY) for run in runs.values() if run["stage"] == "reduce"]


def _figures(sources: Sources) -> list[list[str]]:
    """Searches, probes, evaluation, the studies, and a check that no figure used."""
    study = sources.study
    searches = _searches(sources).items()
    lists = _together(
        [words_of("neighbors", list(names), run, STUDY) for names, run in searches if not run.get("by_slices")]
    )
    lists += searched_by_slices(sources, STUDY)
    for encoder in study.names("predictions"):
        run = study.run_of("predictions", f"encoder={path_name(encoder)}")
        lists += [words_of("predictions", [], run, STUDY)] if run else []
    lists.append(words_of("metrics", [], sources.metrics_run, STUDY))
    lists += [["cbmir", "evaluate", "--study", STUDY, "--as-published", paper] for paper in study.names("as_published")]
    for dataset in _STUDIES:
        asked = (study.run_of(dataset) or {}).get("commands") or []
        lists += [["cbmir", *_without_files(words), "--study", STUDY] for words in asked]
    checked = study.run_of("problems")
    if checked and not _uses_duplicates(sources):
        lists.append(_check(sources))
    return lists


def _without_files(words: list[str]) -> list[str]:
    """The words of a study's command, files of weights as a placeholder, descriptions of encoders without their folders."""
    hidden = list(words)
    for at, (flag, value) in enumerate(pairwise(words)):
        if flag == "--encoder":
            hidden[at + 1] = _without_folder(value)
        if flag == "--weights" and not value.startswith(_PUBLIC):
            encoders = [asked for flag, asked in pairwise(words) if flag == "--encoder" and ".toml" not in asked]
            named = next(
                (name for name in sorted(encoders, key=len, reverse=True) if value.startswith(f"{name}=")), None
            )
            name, equals, _ = (named, "=", "") if named else value.partition("=")
            hidden[at + 1] = f"{name}={WEIGHTS}" if equals and (named or "/" not in name) else WEIGHTS
    return hidden


def _without_folder(encoder: str) -> str:
    """'my=/somebody/spec.toml@64' -> 'my=spec.toml@64'."""
    alias, equals, base = encoder.rpartition("=") if ".toml" in encoder else ("", "", encoder)
    return alias + equals + os.path.basename(base) if ".toml" in base else encoder


def _check(sources: Sources) -> list[str]:
    return words_of("problems", [], sources.study.run_of("problems"), STUDY)


def _uses_duplicates(sources: Sources) -> bool:
    """Whether figures were made with the duplicates that a check had found."""
    passed_over = any("duplicate_group" in run["parameters"]["exclude_same"] for run in _searches(sources).values())
    query = "SELECT count(*) FROM metrics WHERE metric = 'duplicates_at_k'"
    counted = sources.connection.execute(query).fetchall()[0][0] > 0
    return (passed_over or counted) and sources.study.run_of("problems") is not None


def _searches(sources: Sources) -> dict[tuple[str, str], dict[str, Any]]:
    return dict(sorted(sources.neighbors_runs.items()))


def _embeddings(sources: Sources) -> dict[str, dict[str, Any]]:
    """run.json of every encoder that was searched, and of those that they were reduced from."""
    runs = dict(sources.embeddings_runs)
    for run in sources.embeddings_runs.values():
        source = run["parameters"].get("source") if run["stage"] == "reduce" else None
        made = sources.study.run_of("embeddings", f"encoder={path_name(source)}") if source else None
        if made:
            runs[source] = made
    return dict(sorted(runs.items()))


def _embed(name: str, run: dict[str, Any]) -> list[str]:
    """cbmir embed of one encoder, with the precision that `auto` came to on that machine."""
    spec = run.get("spec") or {}
    asked = spec.get("asked") or name
    words = [
        "cbmir",
        "embed",
        "--study",
        STUDY,
        "--encoder",
        _without_folder(asked),
    ]
    if spec.get("source") != "pixels" and run.get("precision"):
        words += ["--precision", run["precision"]]
    if run.get("packed"):
        words.append("--packed")
    elif run.get("decode") == "whole":
        words.append("--whole-decode")
    if run.get("dtype", "float32") != "float32":
        words += ["--dtype-stored", run["dtype"]]
    weights = spec.get("weights")
    if weights:
        words += ["--weights", weights if weights.startswith(_PUBLIC) else WEIGHTS]
    return words + _failures(run)


def _import(run: dict[str, Any]) -> list[str]:
    said = run["parameters"]
    words = [
        "cbmir",
        "embeddings",
        "import",
        *(f"{VECTORS}/{name}" for name in run["imported"]),
        "--study",
        STUDY,
        "--encoder",
        said["encoder"],
    ]
    for key in ("match", "key_column", "vector_column"):
        if said.get(key):
            words += [f"--{key.replace('_', '-')}", said[key]]
    if said.get("dtype", "float32") != "float32":
        words += ["--dtype-stored", said["dtype"]]
    return words + _failures(run)


def _failures(run: dict[str, Any]) -> list[str]:
    """The share of failures that has to be allowed, where it is more than usual."""
    failed = run.get("failed") or 0
    share = failed / max(1, failed + run["rows"])
    return ["--max-failures", f"{math.ceil(1000 * share) / 1000:g}"] if share > _MOST_FAILURES else []


def _together(lists: list[list[str]]) -> list[list[str]]:
    """Commands that differ in their encoder alone as one command with all of them, in the order of the first; each with its own weights stays alone."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for words in lists:
        at = words.index("--encoder")
        rest = (*words[:at], "", *words[at + 2 :], *([words[at + 1]] if "--weights" in words else []))
        groups.setdefault(rest, []).append(words[at + 1])
    found = []
    for rest, encoders in groups.items():
        at = rest.index("")
        tail = rest[at + 1 : -1] if "--weights" in rest else rest[at + 1 :]
        found.append([*rest[:at], *(word for name in encoders for word in ("--encoder", name)), *tail])
    return found


def _remarks(sources: Sources, lists: list[list[str]]) -> list[str]:
    """What a stranger has to know beside the commands."""
    found = []
    if removed := sources.manifest_run.get("removed"):
        found.append(
            f"{removed:,} images were taken out of the study after its manifest was made (cbmir remove); this page does not say which."
        )
    if any("…" in word for words in lists for word in words):
        found.append("… stands for the folders of a path that this page does not name.")
    if any(word.endswith(".toml") for words in lists for word in words):
        found.append("A .toml file describes an encoder; it belongs beside this report.")
    late = [dataset for dataset in _STUDIES if (run := sources.study.run_of(dataset)) and not run.get("commands")]
    if late:
        found.append(
            f"{', '.join(late)}: the run.json of these studies does not say how they were asked for; their parameters are in the view runs."
        )
    return found


def _seeds(sources: Sources) -> list[tuple[str, str]]:
    """Everything random behind the figures, with its seed."""
    slices = slices_if_volumes(sources)
    said = (slices.require("manifest") if slices else sources.manifest_run)["parameters"]
    scored = sources.metrics_run["parameters"]
    found = []
    if any("drawn" in note for note in said.get("notes", ())):
        found.append(("split of the images", str(said.get("seed", 0))))
    for encoder, run in _embeddings(sources).items():
        if run.get("random_weights") is not None:
            found.append((f"random weights of {encoder}", str(run["random_weights"])))
    if scored.get("resamples"):
        found.append(("resamples and permutations of patients", str(scored.get("seed", 0))))
    if sources.study.files("scaling"):
        seeds = pc.unique(sources.study.dataset("scaling").to_table(columns=["seed"])["seed"]).sort().to_pylist()
        found.append(("samples of the gallery", ", ".join(map(str, seeds))))
    for encoder in sources.study.names("predictions"):
        run = sources.study.run_of("predictions", f"encoder={path_name(encoder)}")
        if run:
            found.append((f"linear probes of {encoder}", ", ".join(map(str, run["parameters"]["seeds"]))))
    return found
