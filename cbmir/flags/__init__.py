"""The command line's grammar: one parser that `cbmir` and every job share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from cbmir.commands import told
from cbmir.flags import ask, common, source, stages, studies, volumes
from cbmir.flags.kinds import weights_flag

__all__ = ["COMMANDS", "parse", "parser", "weights_flag"]

COMMANDS = {
    "manifest": ("read an image collection into the study", "cbmir manifest csv images.csv --study study"),
    "manifest check": (
        "look at every image: is it there, does it decode, duplicates, patients in two splits, rare classes",
        "cbmir manifest check --study study",
    ),
    "phantoms": (
        "draw a radiology-like collection to try things on",
        "cbmir phantoms demo/images --images 1500 --seed 0",
    ),
    "pack": (
        "shrink every image once, without loss, so that embedding large images again costs little (optional)",
        "cbmir pack --study study --short-side 512",
    ),
    "embed": (
        "turn every image into a vector, for one or several encoders in one pass",
        "cbmir embed --study study --encoder pixels32 --encoder timm:mobilenetv2_100 --device auto",
    ),
    "embeddings import": (
        "take published vectors (HDF5, .npy with Parquet, Parquet) as an encoder's embeddings",
        "cbmir embeddings import nih14.h5 mimic.h5 --encoder biomedclip --study study",
    ),
    "reduce": (
        "fewer numbers a vector, by principal components of the gallery (optional)",
        "cbmir reduce --study study --encoder pixels32 --pca 256",
    ),
    "remove": (
        "take images out of the study, wherever they are, and prove that they are gone (withdrawn consent)",
        "cbmir remove --study study --where \"patient_id = 'p17'\" --dry-run",
    ),
    "index": (
        "build an approximate index of a gallery",
        "cbmir index --study study --encoder pixels32 --index hnsw --gallery \"split = 'train'\"",
    ),
    "search": (
        "find the neighbors of every query, exactly or through an index",
        "cbmir search --study study --encoder pixels32 --index exact -k 100 --exclude-same patient_id",
    ),
    "evaluate": ("score every search of the study in SQL", "cbmir evaluate --study study --k 1,3,5,10"),
    "probe": (
        "train a linear layer on an encoder's vectors and score its predictions of the labels",
        "cbmir probe --study study --encoder biomedclip --seeds 0,1,2",
    ),
    "study index-size": (
        "retrieval against the size of the gallery: nested samples, several seeds, exact and approximate",
        "cbmir study index-size --study study --encoder pixels32 --sizes 1000,4000,16000,all --seeds 5 --index exact,hnsw",
    ),
    "study encoders": (
        "rank the embedded encoders by P@k, with intervals and paired tests; what is not searched exactly yet is",
        "cbmir study encoders --study study --exclude-same patient_id --csv encoders.csv",
    ),
    "study image-size": (
        "retrieval against the size of the images: each brought to several sizes before the encoder's own preprocessing",
        "cbmir study image-size --study study --encoder timm:mobilenetv2_100 --sizes 28,64,128,224",
    ),
    "study search-effort": (
        "speed and quality of approximate search against type of graph, expansion and re-ranking, and the points worth choosing",
        "cbmir study search-effort --study study --encoder pixels32 --dtypes bf16,i8 --expansions 32,64,128 --reranks 1,2,4",
    ),
    "volumes": (
        "make volumes of slices that share a volume_id, and vectors of volumes of the slices' vectors",
        "cbmir volumes --study study --encoder pixels32 --reduce mean,max,concat64",
    ),
    "volumes search": (
        "find volumes by their slices: votes of the slices' neighbors, and late interaction",
        "cbmir volumes search --study study --encoder pixels32 --by count,rank,late --exclude-same patient_id",
    ),
    "volumes run": (
        "manifest, embed, volumes, every search of them, evaluate and report in one go; what is done is skipped",
        "cbmir volumes run medmnist adrenalmnist3d_64.npz --study study --encoder pixels32",
    ),
    "report": ("write one HTML file with figures, charts and galleries", "cbmir report --study study"),
    "run": (
        "manifest, embed, index, search, evaluate and report in one go, or a paper's protocol (--as-published); what is done is skipped",
        "cbmir run csv images.csv --study study --encoder pixels32 --encoder timm:mobilenetv2_100",
    ),
    "sql": (
        "ask the study in SQL: manifest, failures, neighbors, query_metrics, metrics, comparisons ...; without SQL, list the views",
        'cbmir sql --study study "SELECT modality, count(*) FROM manifest GROUP BY 1"',
    ),
    "query": (
        "look up the most similar images to one or several of your own",
        "cbmir query --study study --encoder biomedclip scan.png 'brain.nii.gz#axis=2&slice=40' -k 10 --html similar.html",
    ),
    "encoders": ("list the encoders, or show one in full", "cbmir encoders timm:mobilenetv2_100"),
    "encoders fetch": (
        "download the weights of encoders ahead of a run",
        "cbmir encoders fetch biomedclip rad-dino",
    ),
    "encoders check": (
        "load encoders, run a test image, and say dim, norm and speed",
        "cbmir encoders check biomedclip --device cpu",
    ),
    "doctor": ("check this machine and a study, and say what to do about each finding", "cbmir doctor --study study"),
}


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, and takes no abbreviation for what it means: --overwrite deletes."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """Flags of one command, and its `words` (commands.told); exits with 2 and one line where they do not fit."""
    words = told(argv)
    if " ".join(argv[:2]) in COMMANDS:  # a command of two words is one argument to argparse
        argv = [" ".join(argv[:2]), *argv[2:]]
    arguments = parser().parse_args(argv)
    arguments.words = words
    return arguments


def parser() -> Parser:
    """The whole grammar."""
    from cbmir import __version__

    top = Parser(prog="cbmir", description="Content-based medical image retrieval: images to P@k per pathology.")
    top.add_argument("--version", action="version", version=f"cbmir {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (summary, example) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        _ADD[name](command)
    return top


_ADD = {
    "manifest": source.manifest,
    "manifest check": source.manifest_check,
    "phantoms": source.phantoms,
    "pack": stages.pack,
    "embed": stages.embed,
    "embeddings import": source.embeddings_import,
    "reduce": stages.reduce,
    "remove": stages.remove,
    "index": stages.index,
    "search": stages.search,
    "evaluate": stages.evaluate,
    "probe": stages.probe,
    "study index-size": studies.index_size,
    "study encoders": studies.encoders,
    "study image-size": studies.image_size,
    "study search-effort": studies.search_effort,
    "volumes": volumes.volumes,
    "volumes search": volumes.search,
    "volumes run": volumes.run,
    "report": common.report,
    "run": stages.run,
    "sql": ask.sql,
    "query": ask.query,
    "encoders": ask.encoders,
    "encoders fetch": ask.encoders_fetch,
    "encoders check": ask.encoders_check,
    "doctor": ask.doctor,
}
