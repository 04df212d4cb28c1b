"""Flags of `cbmir run --as-published`: a paper's whole protocol over files of MedMNIST."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser

from cbmir.datasets import SOURCES
from cbmir.errors import UserError
from cbmir.flags.kinds import ks

_TAKES = {  # all else of `cbmir run` is what the protocol decides
    "command", "debug", "words", "study", "encoder", "source", "roots", "as_published", "sizes", "csv", "overwrite", "resamples",
    "image_size", "batch_size", "device", "precision", "compile", "whole_decode", "color_resize", "decode_workers", "profile",
    "dtype_stored", "weights", "weights_cache", "offline", "random_weights", "max_failures", "retry_failures", "ray_address",
}  # fmt: skip
_NAMES = {"depth": "-k"}


def as_published(command: ArgumentParser) -> None:
    command.add_argument(
        "--as-published",
        choices=("mahbod2024",),
        help="with files of MedMNIST in place of SOURCE ROOT: the paper's protocol end to end, and its table beside the published one",
    )
    command.add_argument(
        "--sizes",
        type=ks,
        metavar="N,N",
        help="of --as-published: pixels, or voxels, a side that every file is shown at (default: its own)",
    )
    command.add_argument("--csv", metavar="FILE", help="of --as-published: also write the table")


def refuse_as_published_flags(a: argparse.Namespace) -> None:
    """UserError for flags of --as-published without it."""
    for name in ("sizes", "csv"):
        if getattr(a, name) is not None:
            raise UserError(f"--{name} without --as-published; expected it with --as-published mahbod2024 FILE.npz")


def published_run_options(a: argparse.Namespace):
    """UserError for a source, no file, and flags that the protocol leaves no room for."""
    from cbmir.flags import parser
    from cbmir.flags.typed import embed_options
    from cbmir.published_run import PublishedRunOptions

    if a.source in SOURCES:
        raise UserError(
            f"--as-published {a.as_published} reads files of MedMNIST by itself; found source {a.source}; leave it out"
        )
    files = tuple(filter(None, [a.source, *a.roots]))
    if not files:
        raise UserError(
            f"--as-published {a.as_published} without FILE; expected cbmir run --as-published {a.as_published} FILE.npz ... --study DIR"
        )
    usual = vars(parser().parse_args([a.command, "--study", a.study, "--encoder", a.encoder[0]]))
    for name, value in usual.items():
        if name not in _TAKES and getattr(a, name) != value:
            flag = _NAMES.get(name, f"--{name.replace('_', '-')}")
            raise UserError(f"{flag} with --as-published {a.as_published}: the protocol decides it; leave it out")
    return PublishedRunOptions(
        files=files, sizes=tuple(a.sizes or ()), embed=embed_options(a), resamples=a.resamples, csv=a.csv
    )
