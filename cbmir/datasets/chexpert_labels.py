"""The 14 labels of the CheXpert labeler (Irvin et al. 2019), which CheXpert and MIMIC-CXR share: 1 present, 0 absent, -1 uncertain, blank not mentioned."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cbmir.datasets.csv_table import label_columns
from cbmir.datasets.one_hot import OneHot
from cbmir.datasets.remarks import Remarks
from cbmir.datasets.table_files import header
from cbmir.errors import UserError

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
LABELS = tuple(f"XR/chest/{finding}" for finding in FINDINGS)
COUNTED = LABELS[:-1]  # Support Devices is no finding to the first paper


def read_labels(address: str, lines: np.ndarray, remarks: Remarks) -> OneHot:
    """The 14 columns of a label file; UserError for one that is not there."""
    columns = {name.strip().lower(): name for name in header(address)}
    missing = [finding for finding in FINDINGS if finding.lower() not in columns]
    if missing:
        raise UserError(
            f"{address} has no column {missing[0]}; expected the 14 labels of CheXpert; use the file as distributed"
        )
    return label_columns(address, [columns[f.lower()] for f in FINDINGS], lines, remarks, names=list(LABELS))


def label_lists(labels: OneHot) -> dict[str, pa.Array]:
    """labels, unknown_labels (blank and -1) and uncertain_labels (-1)."""
    found = {"labels": labels.present, "unknown_labels": labels.unknown, "uncertain_labels": labels.uncertain}
    return {name: column.combine_chunks() for name, column in found.items()}
