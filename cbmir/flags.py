"""The command line's grammar: one parser that `cbmir` and every job share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from cbmir.datasets import SOURCES
from cbmir.errors import UserError

COMMANDS = {
    "manifest": ("read an image collection into the study", "cbmir manifest csv images.csv --study study"),
    "phantoms": (
        "draw a radiology-like collection to try things on",
        "cbmir phantoms demo/images --images 1500 --seed 0",
    ),
    "embed": (
        "turn every image into a vector, for one or several encoders in one pass",
        "cbmir embed --study study --encoder pixels32 --encoder timm:mobilenetv2_100 --device auto",
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
    "report": ("write one HTML file with figures, charts and galleries", "cbmir report --study study"),
    "run": (
        "manifest, embed, index, search, evaluate and report in one go; what is done is skipped",
        "cbmir run csv images.csv --study study --encoder pixels32 --encoder timm:mobilenetv2_100",
    ),
    "sql": (
        "ask the study in SQL: manifest, embeddings, failures, neighbors, query_metrics, metrics, runs",
        'cbmir sql --study study "SELECT modality, count(*) FROM manifest GROUP BY 1"',
    ),
    "query": (
        "look up the most similar images to one or several of your own",
        "cbmir query --study study --encoder pixels32 --index exact scan.png -k 10 --html similar.html",
    ),
    "encoders": ("list the encoders, or show one in full", "cbmir encoders timm:mobilenetv2_100"),
    "doctor": ("check this machine and a study, and say what to do about each finding", "cbmir doctor --study study"),
}


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, and takes no abbreviation for what it means: --overwrite deletes."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """Flags of one command; exits with 2 and one line where they do not fit."""
    return parser().parse_args(argv)


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


def _study(command: Parser, *, required: bool = True) -> None:
    command.add_argument(
        "--study", required=required, metavar="DIR", help="the study's directory: local, s3:// or gs://"
    )


def _overwrite(command: Parser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace what was made otherwise")


def _source(command: Parser, *, required: bool) -> None:
    sources = "; ".join(f"{name}: {source.summary}" for name, source in SOURCES.items())
    command.add_argument("source", metavar="SOURCE", nargs=None if required else "?", help=sources)
    command.add_argument(
        "roots", metavar="ROOT", nargs="+" if required else "*", help="directories or files of the source"
    )
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=THEIRS",
        type=_pair,
        help="csv: their column for ours, e.g. labels=diagnosis",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_pair,
        help="one value for every row, e.g. modality=XR",
    )
    command.add_argument("--seed", type=int, default=0, help="of the split, where the source has none (default 0)")


def _manifest(command: Parser) -> None:
    _source(command, required=True)
    _study(command)
    _overwrite(command)


def _phantoms(command: Parser) -> None:
    command.add_argument("directory", metavar="DIR", help="where to draw; created")
    command.add_argument("--images", type=int, default=1500, help="how many (default 1500)")
    command.add_argument("--seed", type=int, default=0, help="the same seed draws the same files (default 0)")
    command.add_argument("--broken", type=int, help="files to break on purpose (default 0.4 %%)")


def _encoders_flag(command: Parser, text: str) -> None:
    command.add_argument("--encoder", action="append", required=True, metavar="NAME", help=text)


def _embed_options(command: Parser) -> None:
    command.add_argument(
        "--image-size", type=int, metavar="N", help="side of the encoder's input in pixels (default: its own)"
    )
    command.add_argument("--batch-size", type=int, default=64, metavar="N", help="images a forward pass (default 64)")
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: GPUs where there are any"
    )
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="default auto: bfloat16 on GPUs, else float32",
    )
    command.add_argument(
        "--dtype-stored", choices=("float32", "float16"), default="float32", help="of the stored vectors"
    )
    command.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="local weights: safetensors or a torch state dict",
    )
    command.add_argument(
        "--random-weights", type=int, metavar="SEED", help="untrained weights, marked as such in every table"
    )
    command.add_argument(
        "--max-failures",
        type=_share,
        default=0.01,
        metavar="SHARE",
        help="exit with 3 if more images fail (default 1%%)",
    )
    command.add_argument("--retry-failures", action="store_true", help="try failed images again")
    command.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster (default: RAY_ADDRESS, else this machine)"
    )


def _embed(command: Parser) -> None:
    _study(command)
    _encoders_flag(command, "repeat for several; all are embedded in one pass; see cbmir encoders")
    _embed_options(command)
    _overwrite(command)


def _index_options(command: Parser) -> None:
    command.add_argument("--dtype", default="bf16", help="of the index: bf16 (default), f16, f32, i8")
    command.add_argument("--connectivity", type=int, default=16, metavar="N", help="edges of a node (default 16)")
    command.add_argument(
        "--expansion-add", type=int, default=128, metavar="N", help="candidates while building (default 128)"
    )
    command.add_argument("--expansion-search", type=int, metavar="N", help="candidates while searching (default 256)")


def _index(command: Parser) -> None:
    _study(command)
    _encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument("--index", required=True, metavar="NAME", help="a name for it")
    command.add_argument(
        "--gallery",
        default="split = 'train'",
        metavar="SQL",
        help="predicate over the manifest (default: split = 'train')",
    )
    _index_options(command)
    _overwrite(command)


def _search_options(command: Parser) -> None:
    command.add_argument(
        "--gallery", metavar="SQL", help="predicate (default: the index's own; split = 'train' for exact)"
    )
    command.add_argument(
        "--queries", default="split = 'test'", metavar="SQL", help="predicate (default: split = 'test')"
    )
    command.add_argument(
        "-k",
        dest="depth",
        type=int,
        metavar="K",
        help="neighbors a query (default 100, or the gallery if it is smaller)",
    )
    command.add_argument(
        "--exclude-same",
        action="append",
        default=[],
        metavar="COLUMN",
        help="pass over neighbors with the query's value, e.g. patient_id",
    )


def _search(command: Parser) -> None:
    _study(command)
    _encoders_flag(command, "whose embeddings; repeat for several")
    command.add_argument("--index", required=True, metavar="exact|NAME", help="exact, or an index by its name")
    _search_options(command)
    command.add_argument(
        "--expansion-search", type=int, metavar="N", help="candidates in the graph (default: the index's own)"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of exact search")
    command.add_argument("--save-as", metavar="NAME", help="store under another name than the index's")
    _overwrite(command)


def _evaluate(command: Parser) -> None:
    _study(command)
    command.add_argument("--k", type=_ks, metavar="K,K", help="default 1,3,5,10")


def _run(command: Parser) -> None:
    _source(command, required=False)
    _study(command)
    _encoders_flag(command, "repeat for several")
    _embed_options(command)
    command.add_argument(
        "--index",
        action="append",
        metavar="exact|NAME",
        help="searches to make (default: exact and hnsw); others than exact are built",
    )
    _search_options(command)
    _index_options(command)
    command.add_argument("--k", type=_ks, metavar="K,K", help="depths of P@k (default 1,3,5,10)")
    _overwrite(command)


def _sql(command: Parser) -> None:
    _study(command)
    command.add_argument("statement", nargs="?", metavar="SQL", help="one statement; without it, a session")
    command.add_argument("--csv", metavar="FILE", help="save the result as CSV")
    command.add_argument("--parquet", metavar="FILE", help="save the result as Parquet")


def _query(command: Parser) -> None:
    _study(command)
    command.add_argument("--encoder", required=True, metavar="NAME", help="one that the study was embedded with")
    command.add_argument("--index", required=True, metavar="exact|NAME", help="exact, or an index by its name")
    command.add_argument("images", nargs="+", metavar="IMAGE_OR_DIR", help="image files, or directories of them")
    command.add_argument("-k", type=int, default=10, metavar="K", help="neighbors an image (default 10)")
    command.add_argument(
        "--gallery", metavar="SQL", help="predicate (default: the index's own; split = 'train' for exact)"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the encoder")
    command.add_argument("--csv", metavar="FILE", help="save the neighbors as CSV")
    command.add_argument("--html", metavar="FILE", help="save a page with pictures")


def _encoders(command: Parser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="show this one in full")


def _doctor(command: Parser) -> None:
    _study(command, required=False)


_ADD = {
    "manifest": _manifest,
    "phantoms": _phantoms,
    "embed": _embed,
    "index": _index,
    "search": _search,
    "evaluate": _evaluate,
    "report": _study,
    "run": _run,
    "sql": _sql,
    "query": _query,
    "encoders": _encoders,
    "doctor": _doctor,
}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _share(text: str) -> float:
    """'1%' or '0.01' -> 0.01."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.01 or 1%") from None


def _ks(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,5,10") from None


def weights_flag(pairs: list[str], encoders: list[str]) -> dict[str, str]:
    """['FILE'] -> {'': FILE}; ['NAME=FILE', ...] -> {NAME: FILE}, names being those of --encoder."""
    found: dict[str, str] = {}
    for text in pairs:
        name = next((e for e in sorted(encoders, key=len, reverse=True) if text.startswith(f"{e}=")), "")
        if not name:  # an alias stands for its encoder
            alias, _, rest = text.partition("=")
            name = next((e for e in encoders if rest and e.startswith(f"{alias}=")), "")
            file = rest if name else text
        else:
            file = text[len(name) + 1 :]
        if name in found:
            raise UserError(
                f"--weights given twice for {name or 'the same encoder'}; expected NAME=FILE, once for each"
            )
        found[name] = file
    return found
