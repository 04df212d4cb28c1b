"""Flags of indexes: how a graph is built, tuned and searched."""

from __future__ import annotations

from argparse import ArgumentParser

from cbmir.flags.kinds import share


def index_options(command: ArgumentParser) -> None:
    graph_options(command)
    command.add_argument(
        "--recall",
        type=share,
        metavar="SHARE",
        help="find the expansion that reaches this recall, e.g. 0.99, on a sample of queries",
    )
    command.add_argument(
        "--shards", type=int, default=1, metavar="N", help="build as N graphs, each by a Ray task (default 1)"
    )


def graph_options(command: ArgumentParser) -> None:
    """How one graph is built and searched."""
    command.add_argument("--dtype", default="bf16", help="of the index: bf16 (default), f16, f32, i8")
    command.add_argument(
        "--pca", type=int, metavar="N", help="let the graph hold N principal axes: smaller and faster; see --rerank"
    )
    command.add_argument("--connectivity", type=int, default=16, metavar="N", help="edges of a node (default 16)")
    command.add_argument(
        "--expansion-add", type=int, default=128, metavar="N", help="candidates while building (default 128)"
    )
    command.add_argument("--expansion-search", type=int, metavar="N", help="candidates while searching (default 256)")
    command.add_argument("--recall-at", type=int, default=10, metavar="K", help="depth of that recall (default 10)")
    command.add_argument(
        "--rerank",
        type=int,
        default=4,
        metavar="N",
        help="score N candidates a neighbor by exact distance (default 4)",
    )


def metric(command: ArgumentParser, default: str | None, text: str) -> None:
    command.add_argument("--metric", choices=("cos", "ip", "l2"), default=default, help=text)


def index_device(command: ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the exact search behind --recall"
    )
