"""Flags that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser


def study(command: ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "--study", required=required, metavar="DIR", help="the study's directory: local, s3:// or gs://"
    )


def overwrite(command: ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace what was made otherwise")


def encoders_flag(command: ArgumentParser, text: str) -> None:
    command.add_argument("--encoder", action="append", required=True, metavar="NAME", help=text)
