"""medmnist: the .npz files of MedMNIST (Yang et al. 2023), 2D and 3D, any size.

A row's uri is `FILE.npz#array=train_images&row=12`; a volume's slices along axis 0 are rows of their own, with
`&slice=5`, `volume_id` and `slice`. Class names and modality follow the collection's own list where the file's name
says which set it is; elsewhere they are 'class 0', 'class 1' ... and 'unknown'.
"""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cbmir.datasets import Options
from cbmir.datasets.remarks import Remarks
from cbmir.errors import UserError
from cbmir.images.errors import ImageError
from cbmir.images.npz import array_names

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class MedSet:
    """What a MedMNIST file does not say itself: modality, region and class names in order."""

    modality: str
    region: str
    classes: tuple[str, ...]


_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
           "lung-right", "pancreas", "spleen")  # fmt: skip

SETS: dict[str, MedSet] = {
    "pathmnist": MedSet("HISTO", "colon", (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium")),
    "chestmnist": MedSet("XR", "chest", (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia")),
    "dermamnist": MedSet("DERM", "skin", (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions")),
    "octmnist": MedSet("OCT", "retina", (
        "choroidal neovascularization", "diabetic macular edema", "drusen", "normal")),
    "pneumoniamnist": MedSet("XR", "chest", ("normal", "pneumonia")),
    "retinamnist": MedSet("FUNDUS", "retina", ("0", "1", "2", "3", "4")),
    "breastmnist": MedSet("US", "breast", ("malignant", "normal, benign")),
    "bloodmnist": MedSet("MICRO", "blood", (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte", "neutrophil",
        "platelet")),
    "tissuemnist": MedSet("MICRO", "kidney", (
        "collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments",
        "thick ascending limb")),
    "organamnist": MedSet("CT", "abdomen", _ORGANS),
    "organcmnist": MedSet("CT", "abdomen", _ORGANS),
    "organsmnist": MedSet("CT", "abdomen", _ORGANS),
    "organmnist3d": MedSet("CT", "abdomen", (
        "liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart", "lung-right",
        "lung-left", "spleen", "pancreas")),
    "nodulemnist3d": MedSet("CT", "chest", ("benign", "malignant")),
    "adrenalmnist3d": MedSet("CT", "adrenal", ("normal", "hyperplasia")),
    "fracturemnist3d": MedSet("CT", "ribs", (
        "buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture")),
    "vesselmnist3d": MedSet("MR", "brain vessels", ("vessel", "aneurysm")),
    "synapsemnist3d": MedSet("EM", "synapse", ("inhibitory synapse", "excitatory synapse")),
}  # fmt: skip


def read(roots: list[str], options: Options, remarks: Remarks) -> pa.Table:
    """MedMNIST files -> rows; train, val and test as the files have them."""
    return pa.concat_tables([_read_one(root, options) for root in roots])


def _read_one(root: str, options: Options) -> pa.Table:
    path = os.path.abspath(root)
    try:
        shapes = array_names(path)
    except FileNotFoundError:
        raise UserError(f"no file {root}; expected a MedMNIST .npz; check ROOT") from None
    except (OSError, zipfile.BadZipFile, ImageError, KeyError, ValueError) as error:
        raise UserError(f"{root} is not a .npz that can be read ({error}); expected a MedMNIST file") from None
    present = [s for s in SPLITS if f"{s}_images" in shapes and f"{s}_labels" in shapes]
    if not present:
        raise UserError(f"{root} holds {', '.join(shapes)}; expected train_images, train_labels, ... as in MedMNIST")
    stem = os.path.basename(path).removesuffix(".npz")
    found = re.match(r"[a-z]+mnist(3d)?", stem.lower())
    known = SETS.get(found.group(0)) if found else None
    dataset = options.constants.get("dataset") or stem
    with np.load(path, allow_pickle=False) as arrays:
        labels = {split: arrays[f"{split}_labels"] for split in present}
    parts = [_split_rows(path, dataset, split, shapes[f"{split}_images"], labels[split], known) for split in present]
    return pa.concat_tables(parts)


def _split_rows(
    path: str, dataset: str, split: str, shape: tuple[int, ...], labels: np.ndarray, known: MedSet | None
) -> pa.Table:
    """One array of images -> its rows; (n, h, w), (n, h, w, 3) or volumes (n, d, h, w)."""
    if len(shape) not in (3, 4):
        raise UserError(f"{dataset}: {split}_images is {shape}; expected (n, h, w), (n, h, w, 3) or (n, d, h, w)")
    count = shape[0]
    if labels.shape[:1] != (count,):
        raise UserError(
            f"{dataset}: {split} has {count:,} images and {labels.size:,} labels; expected one label an image"
        )
    slices = shape[1] if len(shape) == 4 and shape[3] != 3 else None
    names = label_names(labels, known)
    rows = (
        [(row, None) for row in range(count)]
        if slices is None
        else [(r, s) for r in range(count) for s in range(slices)]
    )
    images = [f"{dataset}/{split}/{row}" + ("" if s is None else f"#{s}") for row, s in rows]
    uris = [f"{path}#array={split}_images&row={row}" + ("" if s is None else f"&slice={s}") for row, s in rows]
    columns = {
        "image_id": pa.array(images, pa.string()),
        "uri": pa.array(uris, pa.string()),
        "dataset": pa.array([dataset] * len(rows), pa.string()),
        "split": pa.array([split] * len(rows), pa.string()),
        "modality": pa.array([known.modality if known else None] * len(rows), pa.string()),
        "region": pa.array([known.region if known else None] * len(rows), pa.string()),
        "labels": pa.array([names[row] for row, _ in rows], pa.list_(pa.string())),
        "volume_id": pa.array([None if s is None else f"{dataset}/{split}/{row}" for row, s in rows], pa.string()),
        "slice": pa.array([s for _, s in rows], pa.int32()),
    }
    return pa.table(columns)


def label_names(labels: np.ndarray, known: MedSet | None) -> list[list[str]]:
    """(n,) or (n, 1) class numbers, or (n, c) of 0 and 1 -> the names of each row's classes."""
    labels = np.asarray(labels)
    flat = labels.reshape(len(labels), -1)
    top = flat.shape[1] if flat.shape[1] > 1 else int(flat.max(initial=0)) + 1
    names = known.classes if known else tuple(f"class {i}" for i in range(top))
    if top > len(names):
        raise UserError(f"labels name class {top - 1}; this set has {len(names)} classes ({', '.join(names)})")
    if flat.min(initial=0) < 0:
        raise UserError(f"labels name class {int(flat.min())}; expected classes from 0")
    if flat.shape[1] > 1:
        return [[names[i] for i in np.flatnonzero(row)] for row in flat]
    return [[names[int(value)]] for value in flat[:, 0]]
