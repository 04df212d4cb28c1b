"""Flags of the studies: how retrieval changes with what one can choose."""

from __future__ import annotations

from argparse import ArgumentParser

from cbmir.flags.common import encoders_flag, overwrite, paper, ray_address, study
from cbmir.flags.graphs import graph_options, index_device, metric
from cbmir.flags.kinds import ks, share, sizes, words
from cbmir.flags.stages import embedding, roles


def index_size(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument(
        "--sizes",
        type=sizes,
        required=True,
        metavar="N,N,all",
        help="images in the samples of the gallery, e.g. 1000,4000,16000,all",
    )
    command.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="samples of each size (default 5: seeds 0 to 4)"
    )
    command.add_argument(
        "--sampling",
        choices=("random", "stratified", "patient"),
        default="random",
        help="random (default); stratified: labels in the gallery's proportions; patient: whole patients",
    )
    command.add_argument(
        "--index",
        type=words,
        default=("exact",),
        metavar="exact,NAME",
        help="how each sample is searched: exact (default), and names for an index built of each sample",
    )
    roles(command)
    command.add_argument(
        "-k",
        dest="depth",
        type=int,
        metavar="K",
        help="neighbors a query (default: as the samples that are there, else 100, or the smallest sample)",
    )
    metric(command, "cos", "cosine (default), inner product or Euclidean distance")
    command.add_argument(
        "--k", type=ks, default=[1, 3, 5, 10], metavar="K,K", help="depths of the figures (default 1,3,5,10)"
    )
    command.add_argument(
        "--score",
        action="append",
        metavar="NAME",
        help="one of sql/metrics; repeat for several (default: precision_at_k and precision_at_k_capped; ann_recall in any case)",
    )
    command.add_argument(
        "--at",
        type=sizes,
        metavar="N,N",
        help="sizes for which the fitted curve is extrapolated (default: 2, 4 and 10 times the largest)",
    )
    command.add_argument(
        "--resamples",
        type=int,
        default=1_000,
        metavar="N",
        help="of patients and samples, for 95 %% intervals (default 1000)",
    )
    command.add_argument(
        "--allow-overlap", action="store_true", help="go on where patients have queries and gallery images"
    )
    graph_options(command)
    command.add_argument(
        "--recall",
        type=share,
        default=0.99,
        metavar="SHARE",
        help="beside the fixed expansion, search each index at that which reaches this recall (default 0.99)",
    )
    index_device(command)
    paper(command)
    command.add_argument(
        "--cpus-per-task", type=int, default=1, metavar="N", help="cores and threads of each Ray task (default 1)"
    )
    ray_address(command)
    overwrite(command)


def encoders(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "one of those to rank; repeat for several (default: all that are embedded)", required=False)
    command.add_argument("--k", type=int, default=1, metavar="K", help="they are ranked by P@K (default 1)")
    command.add_argument(
        "--relevance", default="label", metavar="LEVEL", help="what makes a neighbor right (default label)"
    )
    as_there = "default: as the exact searches that are there, else"
    command.add_argument("--gallery", metavar="SQL", help=f"predicate over the manifest ({as_there} split = 'train')")
    command.add_argument("--queries", metavar="SQL", help=f"predicate over the manifest ({as_there} split = 'test')")
    command.add_argument(
        "--exclude-same",
        action="append",
        metavar="COLUMN",
        help=f"pass over neighbors with the query's value, e.g. patient_id ({as_there} none)",
    )
    command.add_argument(
        "--exclude-nothing", action="store_true", help="pass over no neighbors, whatever the searches that are there do"
    )
    metric(command, None, f"cos, ip or l2 ({as_there} cos)")
    command.add_argument("-k", dest="depth", type=int, metavar="K", help=f"neighbors a query ({as_there} 100)")
    _evaluation(command)
    command.add_argument("--csv", metavar="FILE", help="save the table")
    paper(command)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of exact search")
    command.add_argument(
        "--tasks", type=int, default=1, metavar="N", help="Ray tasks that share each search (default 1)"
    )
    ray_address(command)
    command.add_argument("--overwrite", action="store_true", help="search again where the same was not asked")


def image_size(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "at every size; repeat for several; see cbmir encoders")
    _numbers(command, "--sizes", (28, 64, 128, 224), "pixels a side to which each image is brought first")
    roles(command)
    metric(command, "cos", "cosine (default), inner product or Euclidean distance")
    _numbers(command, "--k", (1, 3, 5, 10), "depths of the figures")
    _evaluation(command)
    command.set_defaults(image_size=None)  # --sizes are of images; an encoder's input is NAME@N
    embedding(command)
    overwrite(command)


def search_effort(command: ArgumentParser) -> None:
    study(command)
    encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument(
        "--dtypes",
        type=words,
        default=("f32", "f16", "bf16", "i8"),
        metavar="T,T",
        help="of the graphs (default f32,f16,bf16,i8)",
    )
    _numbers(command, "--expansions", (16, 32, 64, 128, 256), "candidates that a walk keeps")
    _numbers(command, "--reranks", (1, 2, 4), "candidates a neighbor, scored by exact distance")
    command.add_argument(
        "--pca",
        type=sizes,
        default=(None,),
        metavar="N,N,all",
        help="principal axes that the graphs hold; all: everything (default all)",
    )
    _numbers(command, "--connectivity", (16,), "edges of a node")
    command.add_argument(
        "--expansion-add", type=int, default=128, metavar="N", help="candidates while building (default 128)"
    )
    roles(command)
    metric(command, "cos", "cosine (default), inner product or Euclidean distance")
    _numbers(command, "--k", (1, 3, 5, 10), "depths of the figures; as many neighbors are searched as the largest says")
    command.add_argument(
        "--score",
        action="append",
        metavar="NAME",
        help="one of sql/metrics; repeat for several (default: precision_at_k; ann_recall in any case)",
    )
    command.add_argument(
        "--recall",
        type=share,
        default=0.99,
        metavar="SHARE",
        help="ANN recall, at the largest k, that the recommended point must have (default 0.99)",
    )
    command.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="timings of a point, whose median counts (default 3)"
    )
    command.add_argument(
        "--timed-queries", type=int, default=4_096, metavar="N", help="queries of a round, at the most (default 4096)"
    )
    command.add_argument("--threads", type=int, metavar="N", help="that search (default: as many as cores)")
    command.add_argument(
        "--resamples",
        type=int,
        default=1_000,
        metavar="N",
        help="of patients, for 95 %% intervals (default 1000); 0: no intervals",
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of resamples and of the timed queries (default 0)"
    )
    command.add_argument(
        "--allow-overlap", action="store_true", help="go on where patients have queries and gallery images"
    )
    command.add_argument(
        "--keep-graphs", action="store_true", help="keep the graphs as indexes effort-... of the study"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of exact search")
    command.add_argument("--overwrite", action="store_true", help="measure anew what has been measured")


def _evaluation(command: ArgumentParser) -> None:
    """Of figures that are added to those of an evaluation before."""
    for flag, text in (
        ("resamples", "of patients, for 95 %% intervals (default: as evaluated before, else 1000)"),
        ("permutations", "for p-values (default: as evaluated before, else 10000)"),
        ("seed", "of resamples and permutations (default: as evaluated before, else 0)"),
    ):
        command.add_argument(f"--{flag}", type=int, metavar="N", help=text)
    command.add_argument(
        "--allow-overlap", action="store_true", help="go on where patients have queries and gallery images"
    )


def _numbers(command: ArgumentParser, flag: str, default: tuple[int, ...], text: str) -> None:
    """A list of whole numbers."""
    usual = ",".join(map(str, default))
    command.add_argument(flag, type=ks, default=list(default), metavar="N,N", help=f"{text} (default {usual})")
