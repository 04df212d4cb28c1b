"""Flags that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser

from cbmir.flags.kinds import share


def study(command: ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "--study", required=required, metavar="DIR", help="the study's directory: local, s3:// or gs://"
    )


def report(command: ArgumentParser) -> None:
    study(command)
    command.add_argument(
        "--examples",
        type=int,
        default=60,
        metavar="N",
        help="queries shown with the images they found (default 60; fewer where the file would pass 15 MB)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of these queries (default 0)")
    paper(command)


def overwrite(command: ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace what was made otherwise")


def paper(command: ArgumentParser) -> None:
    command.add_argument(
        "--paper",
        action="store_true",
        help="also write LaTeX tables in the published layouts, ours beside theirs: paper/",
    )


def max_failures(command: ArgumentParser) -> None:
    command.add_argument(
        "--max-failures",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="exit with 3 if more images fail (default 1%%)",
    )


def retry_failures(command: ArgumentParser) -> None:
    command.add_argument("--retry-failures", action="store_true", help="try failed images again")


def ray_address(command: ArgumentParser) -> None:
    command.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster (default: RAY_ADDRESS, else this machine)"
    )


def encoders_flag(command: ArgumentParser, text: str, *, required: bool = True) -> None:
    command.add_argument("--encoder", action="append", required=required, metavar="NAME", help=text)


def model_options(command: ArgumentParser) -> None:
    """How an encoder is run."""
    command.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="most images in a forward pass; halved where they do not fit (default: what the device is good at)",
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: GPUs where there are any"
    )
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="default auto: bfloat16 where the device computes in it, else float32",
    )
    command.add_argument("--compile", action="store_true", help="torch.compile: a minute of start, then faster on GPUs")


def reach(command: ArgumentParser) -> None:
    """Where weights are kept, and whether the network is asked for them."""
    command.add_argument(
        "--weights-cache",
        metavar="DIR",
        help="keep downloaded weights there (default: Hugging Face's cache and ~/.cache/cbmir)",
    )
    command.add_argument("--offline", action="store_true", help="take weights from the cache only")
