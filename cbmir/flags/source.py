"""Flags of what reads image collections."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace

from cbmir.datasets import SOURCES, Options
from cbmir.flags.common import overwrite, ray_address, study
from cbmir.flags.kinds import pair, root, share, window


def source(command: ArgumentParser, *, required: bool) -> None:
    sources = "; ".join(f"{name}: {source.summary}" for name, source in SOURCES.items())
    command.add_argument("source", metavar="SOURCE", nargs=None if required else "?", help=sources)
    command.add_argument(
        "roots",
        metavar="ROOT",
        nargs="+" if required else "*",
        help="directories or files of the source: local, s3:// or gs://, also with *, ? and ** in quotes",
    )
    _columns(command)
    _pixels(command)
    command.add_argument(
        "--protocol", metavar="NAME", help="keep the rows that a published protocol keeps: denner2024 (single label)"
    )
    command.add_argument(
        "--missing-images",
        choices=("keep", "drop"),
        default="keep",
        help="rows whose image is not there: keep (default; each becomes a failure of embed) or drop",
    )
    command.add_argument(
        "--deidentify",
        action=BooleanOptionalAction,
        default=None,
        help="salted hashes in place of ids of images, patients, studies and series (default: for dicom)",
    )
    command.add_argument(
        "--salt-file",
        metavar="FILE",
        help="the salt of these hashes, to link studies (default: one drawn for this study)",
    )
    command.add_argument("--seed", type=int, default=0, help="of the split, where the source has none (default 0)")


def _columns(command: ArgumentParser) -> None:
    command.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=THEIRS",
        type=pair,
        help="csv: their column for ours, e.g. labels=diagnosis",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=pair,
        help="one value for every row, e.g. modality=XR",
    )
    command.add_argument(
        "--one-hot",
        action="append",
        default=[],
        metavar="COLUMN",
        help="csv: a column that is a label: 1 present, 0 absent, -1 or blank unknown; * stands for any letters",
    )
    command.add_argument(
        "--separator", default="|", metavar="TEXT", help="csv: between the labels of one column (default |)"
    )
    command.add_argument(
        "--image-root",
        action="append",
        default=[],
        metavar="[DATASET=]DIR",
        type=root,
        help="csv, denner-csv: where relative paths begin, for all or for one dataset (default: beside the table)",
    )


def _pixels(command: ArgumentParser) -> None:
    command.add_argument(
        "--axis",
        type=int,
        choices=(0, 1, 2),
        help="nifti, dicom, medmnist: the axis that volumes are cut along (of the patient: 0 sagittal, 1 coronal, 2 axial; of medmnist: the "
        "array's); default: nifti 2, dicom as acquired, medmnist 0",
    )
    command.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="of each volume only the slices 0, N, 2N ...; images that are in no volume are all kept (default 1: every slice)",
    )
    command.add_argument(
        "--window", type=window, metavar="CENTER,WIDTH", help="nifti: values shown as black to white, e.g. 40,400"
    )


def source_options(arguments: Namespace) -> Options:
    """What was said about the source, as the sources take it."""
    return Options(
        columns=dict(arguments.column),
        constants=dict(arguments.set),
        one_hot=tuple(arguments.one_hot),
        separator=arguments.separator,
        image_root=dict(arguments.image_root),
        axis=arguments.axis,
        every=arguments.every,
        window=arguments.window,
        protocol=arguments.protocol,
        missing_images=arguments.missing_images,
        deidentify=arguments.deidentify,
        salt_file=arguments.salt_file,
        seed=arguments.seed,
    )


def manifest(command: ArgumentParser) -> None:
    source(command, required=True)
    study(command)
    overwrite(command)


def manifest_check(command: ArgumentParser) -> None:
    study(command)
    command.add_argument(
        "-k", type=int, default=10, metavar="K", help="name classes with fewer gallery images than this (default 10)"
    )
    command.add_argument(
        "--gallery", default="split = 'train'", metavar="SQL", help="predicate (default: split = 'train')"
    )
    command.add_argument(
        "--distance",
        type=int,
        default=2,
        metavar="BITS",
        help="near-duplicates may differ in so many of the 64 bits of their perceptual hash (default 2, at most 3)",
    )
    ray_address(command)
    overwrite(command)


def embeddings_import(command: ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help=".h5, .npy with .parquet beside it, or .parquet")
    study(command)
    command.add_argument("--encoder", required=True, metavar="NAME", help="a name for what made the vectors")
    command.add_argument(
        "--match",
        metavar="COLUMN",
        help="the manifest's column that the files' keys are (default: filepath where it has one, else image_id or uri)",
    )
    command.add_argument(
        "--key-column", metavar="NAME", help="Parquet: the column of keys (default: image_path, filepath, image_id ...)"
    )
    command.add_argument(
        "--vector-column", metavar="NAME", help="Parquet: the column of vectors (default: the only one there is)"
    )
    command.add_argument(
        "--dtype-stored", choices=("float32", "float16"), default="float32", help="of the stored vectors"
    )
    command.add_argument(
        "--max-failures",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="exit with 3 if more rows have no vector (default 1%%)",
    )
    overwrite(command)


def phantoms(command: ArgumentParser) -> None:
    command.add_argument("directory", metavar="DIR", help="where to draw; created")
    command.add_argument("--images", type=int, default=1500, help="how many (default 1500)")
    command.add_argument("--seed", type=int, default=0, help="the same seed draws the same files (default 0)")
    command.add_argument("--broken", type=int, help="files to break on purpose (default 0.4 %%)")
