"""Flags of volumes."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser

from cbmir.flags.common import encoders_flag, overwrite, ray_address, study
from cbmir.flags.graphs import metric
from cbmir.flags.kinds import ks, words
from cbmir.flags.source import source
from cbmir.flags.stages import embedding, evaluate_options, roles

_ALL = ("mean", "max", "meanmax", "inner", "concat")


def volumes(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose vectors of slices; repeat for several")
    reductions(command, ("mean",))
    ray_address(command)
    overwrite(command)


def reductions(command: ArgumentParser, default: tuple[str, ...]) -> None:
    command.add_argument(
        "--reduce",
        type=words,
        default=default,
        metavar="NAME,NAME",
        help="vectors of volumes: mean, max, meanmax, inner4 (mean without 4 slices at each end), concat64 (64 slices' vectors one after the other) "
        f"(default {','.join(default)})",
    )


def search(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose vectors of slices; repeat for several")
    modes(command)
    roles(command)
    depth(command)
    metric(command, "cos", "between slices: cosine (default), inner product or Euclidean distance")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the search")
    overwrite(command)


def modes(command: ArgumentParser) -> None:
    command.add_argument(
        "--by",
        type=words,
        default=("count", "rank", "late"),
        metavar="MODE,MODE",
        help="count (votes of the slices' nearest slices), rank (the nearer ones count more), late (late interaction); default: all three",
    )
    command.add_argument(
        "--neighbors",
        type=int,
        default=10,
        metavar="N",
        help="count and rank: nearest slices of each slice (default 10)",
    )
    command.add_argument(
        "--candidates",
        type=_candidates,
        default=100,
        metavar="N|all",
        help="late: rank so many volumes again, the nearest by the mean vector; all: compare every volume (default 100)",
    )


def _candidates(text: str) -> int | None:
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all") from None


def depth(command: ArgumentParser) -> None:
    command.add_argument(
        "-k",
        dest="depth",
        type=int,
        metavar="K",
        help="volumes a query (default 100, or the gallery if it is smaller)",
    )


def run(command: ArgumentParser) -> None:
    source(command, required=False)
    study(command)
    encoders_flag(command, "repeat for several")
    command.add_argument(
        "--image-size", type=int, metavar="N", help="side of the encoder's input in pixels (default: its own)"
    )
    embedding(command)
    reductions(command, _ALL)
    modes(command)
    roles(command)
    depth(command)
    metric(command, "cos", "of all searches: cosine (default), inner product or Euclidean distance")
    command.add_argument("--k", type=ks, metavar="K,K", help="depths of the metrics (default 1,3,5,10)")
    evaluate_options(command)
    overwrite(command)
