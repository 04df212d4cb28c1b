"""The command line that makes a dataset again, from what its run.json says, as a list of words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

KS = [1, 3, 5, 10]  # what cbmir evaluate takes unless told otherwise: a search may be less deep
_FLAGS = {
    "manifest check": ("k", "gallery", "distance"),
    "pack": ("short_side", "whole_decode"),
    "reduce": ("pca", "gallery", "as_published", "queries"),
    "index": (
        "gallery",
        "metric",
        "dtype",
        "pca",
        "connectivity",
        "expansion_add",
        "expansion_search",
        "recall",
        "recall_at",
        "rerank",
        "shards",
    ),
    "search": ("k", "gallery", "queries", "metric", "expansion_search", "rerank", "exclude_same"),
    "volumes search": ("k", "gallery", "queries", "metric", "neighbors", "candidates", "exclude_same"),
    "evaluate": ("metric", "slice", "resamples", "permutations", "seed", "allow_overlap"),
    "report": ("examples", "seed"),
    "probe": ("train", "val", "test", "epochs", "patience", "batch_size", "lr", "weight_decay"),
}
_COMMANDS = {  # what one of these makes beside its own dataset (comparisons ...) needs no line
    "packed": "pack",
    "index": "index",
    "problems": "manifest check",
    "neighbors": "search",
    "metrics": "evaluate",
    "predictions": "probe",
    "report": "report",
}
MADE = tuple(_COMMANDS)


def words_of(dataset: str, names: list[str], run: dict[str, Any], study: str) -> list[str]:
    """['cbmir', 'search', '--study', study, ...] for a dataset of MADE; `names`: the encoder, and the index, that it is of."""
    command, parameters = _COMMANDS[dataset], run["parameters"]
    words = ["cbmir", *command.split(), "--study", study]
    if dataset in ("index", "neighbors"):
        encoder, name = names
        index = parameters.get("index", name)
        words += ["--encoder", encoder, "--index", index, *(["--save-as", name] if name != index else [])]
    if dataset == "predictions":
        words += ["--encoder", parameters["encoder"], "--seeds", _listed(parameters["seeds"])]
    if dataset == "metrics" and parameters["k"] != KS:
        words += ["--k", _listed(parameters["k"])]
    return words + _flags(command, parameters)


def line(words: list[str]) -> str:
    """Words -> one line for a shell; predicates, which hold single quotes, in double ones, as people write them."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


def reduce_words(parameters: dict[str, Any], study: str) -> list[str]:
    """The same for reduced embeddings."""
    return ["cbmir", "reduce", "--study", study, "--encoder", parameters["source"], *_flags("reduce", parameters)]


def volumes_words(parameters: dict[str, Any], slices: str) -> list[str]:
    """The same for vectors of volumes, of the study `slices`."""
    return [
        "cbmir",
        "volumes",
        "--study",
        slices,
        "--encoder",
        parameters["source"],
        "--reduce",
        parameters["reduction"],
    ]


def volume_search_words(encoder: str, parameters: dict[str, Any], slices: str) -> list[str]:
    """The same for a search of volumes by their slices."""
    words = ["cbmir", "volumes", "search", "--study", slices, "--encoder", encoder, "--by", parameters["index"]]
    if "candidates" in parameters and parameters["candidates"] is None:
        words += ["--candidates", "all"]
    return words + _flags("volumes search", parameters)


def _flags(command: str, parameters: dict[str, Any]) -> list[str]:
    """Parameters as flags of the same names: a list is a flag for each of its values, true a flag alone, null and false none."""
    words: list[str] = []
    for name in _FLAGS.get(command, ()):
        flag = "-k" if name == "k" else f"--{name.replace('_', '-')}"
        value = parameters.get(name)
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            for entry in value:
                words += [flag, str(entry)]
        elif value is not None and value is not False:
            words += [flag, str(value)]
    return words


def _listed(values: list[int]) -> str:
    return ",".join(map(str, values))


_UNTOLD = (
    "--study",
    "--csv",
    "--profile",
    "--ray-address",
    "--weights-cache",
)  # with a value; where things are is not told
_OF_FILES = ("--weights", "--encoder")  # whose values may say where a file lies
_UNTOLD_ALONE = ("--debug", "--overwrite", "--retry-failures", "--offline", "--paper")


def told(arguments: Sequence[str]) -> list[str]:
    """The words of a command as it was given, less what says where and not what: ['study', 'index-size', '--sizes', '10,all'].

    '--weights=FILE' becomes two words, as are all others, so that a file is found where one is looked for.
    """
    words, value_follows = [], False
    for word in arguments:
        flag, equals, value = word.partition("=")
        if not value_follows and equals and flag in _OF_FILES:
            words += [flag, value]
            continue
        if not value_follows and word not in _UNTOLD_ALONE and word.partition("=")[0] not in _UNTOLD:
            words.append(word)
        value_follows = not value_follows and word in _UNTOLD
    return words


def so_far(before: dict[str, Any] | None, asked: Sequence[str]) -> list[list[str]]:
    """The commands that made a dataset to which each adds: those of its run.json, and the one that is adding now."""
    earlier = [words for words in (before or {}).get("commands", []) if words != list(asked)]
    return [*earlier, *([list(asked)] if asked else [])]
