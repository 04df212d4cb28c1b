"""Flags of the stages behind the manifest, and of all of them in one go."""

from __future__ import annotations

from argparse import ArgumentParser

from cbmir.flags.common import (
    encoders_flag,
    max_failures,
    model_options,
    overwrite,
    ray_address,
    reach,
    retry_failures,
    study,
)
from cbmir.flags.graphs import index_device, index_options, metric
from cbmir.flags.kinds import ks, seeds
from cbmir.flags.published import as_published
from cbmir.flags.source import source


def pack(command: ArgumentParser) -> None:
    study(command)
    command.add_argument(
        "--short-side",
        type=int,
        default=512,
        metavar="N",
        help="pixels; what is larger is shrunk to it, what is smaller stays as it is (default 512)",
    )
    command.add_argument(
        "--whole-decode", action="store_true", help="decode JPEG at full size even where less than half of it is kept"
    )
    max_failures(command)
    retry_failures(command)
    ray_address(command)
    overwrite(command)


def embed_options(command: ArgumentParser) -> None:
    command.add_argument(
        "--image-size", type=int, metavar="N", help="side of the encoder's input in pixels (default: its own)"
    )
    embedding(command)


def embedding(command: ArgumentParser) -> None:
    """How images are embedded, whatever size encoders take."""
    model_options(command)
    command.add_argument(
        "--packed", action="store_true", help="take pixels from the study's packed images (cbmir pack), not the files"
    )
    command.add_argument(
        "--whole-decode",
        action="store_true",
        help="decode JPEG at full size even where an encoder takes less than half of it",
    )
    command.add_argument(
        "--color-resize", action="store_true", help="resize grey images as three channels: slower, with the same result"
    )
    command.add_argument(
        "--decode-workers",
        type=int,
        metavar="N",
        help="images read and decoded at a time (default: cores that encoders leave)",
    )
    command.add_argument(
        "--profile", metavar="FILE", help="write Ray's timeline, for chrome://tracing or ui.perfetto.dev"
    )
    command.add_argument(
        "--dtype-stored", choices=("float32", "float16"), default="float32", help="of the stored vectors"
    )
    command.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="safetensors or a torch state dict: a file, or an address (hf://, https://, s3://, gs://)",
    )
    reach(command)
    command.add_argument(
        "--random-weights", type=int, metavar="SEED", help="untrained weights, marked as such in every table"
    )
    max_failures(command)
    retry_failures(command)
    ray_address(command)


def embed(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "repeat for several; all are embedded in one pass; see cbmir encoders")
    embed_options(command)
    overwrite(command)


def reduce(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument("--pca", type=int, required=True, metavar="N", help="numbers that are left of a vector")
    command.add_argument(
        "--gallery",
        default="split = 'train'",
        metavar="SQL",
        help="images that the projection is fitted to (default: split = 'train')",
    )
    command.add_argument(
        "--as-published",
        choices=("mahbod2024",),
        help="mahbod2024: queries are centred and projected by a fit of their own, as in the published code",
    )
    command.add_argument("--queries", metavar="SQL", help="of --as-published (default: split = 'test')")
    overwrite(command)


def remove(command: ArgumentParser) -> None:
    study(command)
    command.add_argument("--where", metavar="SQL", help="images by a predicate over the manifest")
    command.add_argument("--ids", metavar="FILE", help="images by their ids, one image_id a line")
    command.add_argument("--orphans", action="store_true", help="images that the manifest no longer has")
    command.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    command.add_argument(
        "--check",
        action="store_true",
        help="remove nothing: look for the --ids in every file, exit with 1 if one is found",
    )


def index(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument("--index", required=True, metavar="NAME", help="a name for it")
    command.add_argument(
        "--gallery",
        default="split = 'train'",
        metavar="SQL",
        help="predicate over the manifest (default: split = 'train')",
    )
    metric(command, "cos", "cosine (default), inner product or Euclidean distance")
    index_options(command)
    index_device(command)
    ray_address(command)
    overwrite(command)


def search_options(command: ArgumentParser) -> None:
    roles(command)
    command.add_argument(
        "-k",
        dest="depth",
        type=int,
        metavar="K",
        help="neighbors a query (default 100, or the gallery if it is smaller)",
    )


def roles(command: ArgumentParser) -> None:
    """Which images ask, which are asked, and what is passed over."""
    command.add_argument(
        "--gallery", metavar="SQL", help="predicate (default: the index's own; split = 'train' for exact)"
    )
    command.add_argument(
        "--queries", default="split = 'test'", metavar="SQL", help="predicate (default: split = 'test')"
    )
    command.add_argument(
        "--exclude-same",
        action="append",
        default=[],
        metavar="COLUMN",
        help="pass over neighbors with the query's value, e.g. patient_id; duplicate_group: its copies that manifest check found",
    )


def search(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument("--index", required=True, metavar="exact|NAME", help="exact, or an index by its name")
    search_options(command)
    command.add_argument(
        "--expansion-search", type=int, metavar="N", help="candidates in the graph (default: the index's own)"
    )
    command.add_argument(
        "--rerank", type=int, metavar="N", help="candidates a neighbor, scored exactly (default: the index's own)"
    )
    metric(command, None, "of exact search: cos (default), ip, l2; an index has its own")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of exact search")
    command.add_argument(
        "--tasks",
        type=int,
        default=1,
        metavar="N",
        help="share the work among N Ray tasks, e.g. one a node or GPU (default 1: this process)",
    )
    ray_address(command)
    command.add_argument("--save-as", metavar="NAME", help="store under another name than the index's")
    overwrite(command)


def evaluate(command: ArgumentParser) -> None:
    study(command)
    command.add_argument("--k", type=ks, metavar="K,K", help="default 1,3,5,10; P@k is given for every k in any case")
    command.add_argument(
        "--metric", action="append", metavar="NAME", help="one of sql/metrics; repeat for several (default: all)"
    )
    command.add_argument(
        "--slice",
        action="append",
        metavar="COLUMN",
        help="figures per value of a column of the manifest; repeat for several (default: label, region, modality, dataset)",
    )
    command.add_argument(
        "--as-published",
        choices=("denner2024",),
        help="only the figures that the paper's own code gives, its defects included, as its CSV files in as_published/",
    )
    evaluate_options(command)
    command.add_argument(
        "--permutations", type=int, default=10_000, metavar="N", help="for p-values of comparisons (default 10000)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of resamples and permutations (default 0)")


def evaluate_options(command: ArgumentParser) -> None:
    """What `cbmir run` takes of an evaluation as well."""
    command.add_argument(
        "--resamples",
        type=int,
        default=1_000,
        metavar="N",
        help="of patients, for 95 %% intervals (default 1000); 0: no intervals, no comparisons",
    )
    command.add_argument(
        "--allow-overlap", action="store_true", help="go on where patients have queries and gallery images"
    )


def probe(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    for role, what in (("train", "train on"), ("val", "choose the epoch on"), ("test", "judge")):
        command.add_argument(
            f"--{role}",
            default=f"split = '{role}'",
            metavar="SQL",
            help=f"images to {what} (default: split = '{role}')",
        )
    command.add_argument(
        "--seeds",
        type=seeds,
        default=(0,),
        metavar="S,S",
        help="a probe for each; the predictions of the first are stored (default 0)",
    )
    command.add_argument("--epochs", type=int, default=100, metavar="N", help="at the most (default 100)")
    command.add_argument(
        "--patience", type=int, default=20, metavar="N", help="epochs without a better val accuracy (default 20)"
    )
    command.add_argument("--batch-size", type=int, default=512, metavar="N", help="images (default 512)")
    command.add_argument("--lr", type=float, default=1e-3, metavar="X", help="of AdamW (default 0.001)")
    command.add_argument("--weight-decay", type=float, default=0.01, metavar="X", help="of AdamW (default 0.01)")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: a GPU where there is one"
    )
    overwrite(command)


def run(command: ArgumentParser) -> None:
    source(command, required=False)
    study(command)
    encoders_flag(command, "repeat for several")
    embed_options(command)
    command.add_argument(
        "--index",
        action="append",
        metavar="exact|NAME",
        help="searches to make (default: exact and hnsw); others than exact are built",
    )
    search_options(command)
    metric(command, "cos", "of all searches and indexes: cosine (default), inner product or Euclidean distance")
    index_options(command)
    command.add_argument("--k", type=ks, metavar="K,K", help="depths of the metrics (default 1,3,5,10)")
    evaluate_options(command)
    as_published(command)
    overwrite(command)
