"""Flags of the commands that answer people's questions."""

from __future__ import annotations

from argparse import ArgumentParser

from cbmir.flags.common import model_options, reach, study


def sql(command: ArgumentParser) -> None:
    study(command)
    command.add_argument("statement", nargs="?", metavar="SQL", help="one statement; without it, a session")
    command.add_argument("--csv", metavar="FILE", help="save the result as CSV")
    command.add_argument("--parquet", metavar="FILE", help="save the result as Parquet")


def query(command: ArgumentParser) -> None:
    study(command)
    command.add_argument("--encoder", required=True, metavar="NAME", help="one that the study was embedded with")
    command.add_argument(
        "--index",
        metavar="exact|NAME",
        help="exact, or an index by its name (default: the encoder's only index; exact where it has none or several)",
    )
    command.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE_OR_DIR",
        help="image files, slices (FILE.nii.gz#axis=2&slice=30, FILE.dcm#frame=3), or directories of images; with --volumes also whole volumes, ranges of "
        "slices (slice=20-40, slice=20-40/2) and directories of DICOM files",
    )
    command.add_argument("-k", type=int, default=10, metavar="K", help="neighbors an image (default 10)")
    command.add_argument(
        "--gallery", metavar="SQL", help="predicate (default: the index's own; split = 'train' for exact)"
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the encoder")
    command.add_argument(
        "--csv", metavar="FILE", help="save a row an image, the paths of its neighbors: knn.csv of Denner et al. 2024"
    )
    command.add_argument(
        "--table", metavar="FILE", help="save a row a neighbor with distance and labels: FILE.csv or FILE.parquet"
    )
    command.add_argument("--html", metavar="FILE", help="save a page with pictures")
    volumes(command)


def volumes(command: ArgumentParser) -> None:
    """Of a query that looks for volumes."""
    command.add_argument(
        "--volumes", action="store_true", help="find volumes of the study, by slices, ranges of slices or whole volumes"
    )
    command.add_argument(
        "--volume",
        action="append",
        default=[],
        metavar="ID",
        help="ask with a volume of the study, by its stored vectors; repeat for several",
    )
    command.add_argument(
        "--slices", metavar="FIRST-LAST", help="only these slices of each --volume: 30, 20-40 or 20-40/2"
    )
    command.add_argument(
        "--matches", type=int, metavar="N", help="pairs of slices shown of each volume found (default 3)"
    )


def encoders(command: ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="show this one in full")
    reach(command)


def encoders_fetch(command: ArgumentParser) -> None:
    command.add_argument("names", nargs="+", metavar="NAME", help="one of cbmir encoders, or a file.toml")
    reach(command)


def encoders_check(command: ArgumentParser) -> None:
    command.add_argument("names", nargs="+", metavar="NAME", help="one of cbmir encoders, or a file.toml")
    command.add_argument("--image-size", type=int, metavar="N", help="side of its input in pixels (default: its own)")
    command.add_argument("--weights", metavar="FILE", help="safetensors or a torch state dict: a file, or an address")
    command.add_argument("--random-weights", type=int, metavar="SEED", help="untrained weights")
    model_options(command)
    reach(command)


def doctor(command: ArgumentParser) -> None:
    study(command, required=False)
