"""folder: image files in directories; what the directories mean is in `layout`."""

from __future__ import annotations

import pyarrow as pa

from cbmir.datasets import Options
from cbmir.datasets.layout import columns
from cbmir.datasets.listing import Found, listed, suffix_counts
from cbmir.datasets.remarks import Remarks

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".dicom")
_VOLUMES = (".nii", ".nii.gz")
_TYPES = {"labels": pa.list_(pa.string())}


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """Every image file of the roots, known by its suffix, in the order of their paths; other files are counted in a remark."""
    files = listed(roots, remarks)
    images = [file for file in files if file.relative.lower().endswith(IMAGE_SUFFIXES)]
    _name_others([file for file in files if not file.relative.lower().endswith(IMAGE_SUFFIXES)], remarks)
    found = columns(images, options.constants.get("dataset"))
    return pa.table({name: pa.array(values, _TYPES.get(name, pa.string())) for name, values in found.items()})


def _name_others(others: list[Found], remarks: Remarks) -> None:
    volumes = [file for file in others if file.relative.lower().endswith(_VOLUMES)]
    others = [file for file in others if not file.relative.lower().endswith(_VOLUMES)]
    if volumes:
        detail = f"{len(volumes):,} NIfTI volumes; make a manifest of their slices with source nifti"
        remarks.add("other_file", detail, file=volumes[0].address)
    if others:
        detail = (
            f"{len(others):,} files that are no images by their suffix: {suffix_counts(f.relative for f in others)}"
        )
        remarks.add("other_file", detail, file=others[0].address)
