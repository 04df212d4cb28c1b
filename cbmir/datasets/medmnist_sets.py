"""What MedMNIST's files do not say themselves: modality, region, class names in order and how many images were published.

Names are spelled as in the collection's own list (medmnist 3.0.2, `INFO`). Counts are (train, val, test); some sets were published
twice, and version 3 lacks a few images of version 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SIZES_2D, SIZES_3D = (28, 64, 128, 224), (28, 64)


@dataclass(frozen=True)
class MedSet:
    """One set. `several`: an image may be of several classes; `volumes`: images are volumes."""

    modality: str
    region: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, int, int], ...]
    several: bool = False
    volumes: bool = False


_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
           "lung-right", "pancreas", "spleen")  # fmt: skip

SETS: dict[str, MedSet] = {
    "pathmnist": MedSet("HISTO", "colon", (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium"), ((89996, 10004, 7180),)),
    "chestmnist": MedSet("XR", "chest", (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"), ((78468, 11219, 22433),), several=True),
    "dermamnist": MedSet("DERM", "skin", (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"), ((7007, 1003, 2005),)),
    "octmnist": MedSet("OCT", "retina", (
        "choroidal neovascularization", "diabetic macular edema", "drusen", "normal"), ((97477, 10832, 1000),)),
    "pneumoniamnist": MedSet("XR", "chest", ("normal", "pneumonia"), ((4708, 524, 624),)),
    "retinamnist": MedSet("FUNDUS", "retina", ("0", "1", "2", "3", "4"), ((1080, 120, 400),)),
    "breastmnist": MedSet("US", "breast", ("malignant", "normal, benign"), ((546, 78, 156),)),
    "bloodmnist": MedSet("MICRO", "blood", (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte", "neutrophil",
        "platelet"), ((11959, 1712, 3421),)),
    "tissuemnist": MedSet("MICRO", "kidney", (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
        "Thick Ascending Limb"), ((165466, 23640, 47280),)),
    "organamnist": MedSet("CT", "abdomen", _ORGANS, ((34561, 6491, 17778), (34581, 6491, 17778))),
    "organcmnist": MedSet("CT", "abdomen", _ORGANS, ((12975, 2392, 8216), (13000, 2392, 8268))),
    "organsmnist": MedSet("CT", "abdomen", _ORGANS, ((13932, 2452, 8827), (13940, 2452, 8829))),
    "organmnist3d": MedSet("CT", "abdomen", (
        "liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart", "lung-right",
        "lung-left", "spleen", "pancreas"), ((971, 161, 610), (972, 161, 610)), volumes=True),
    "nodulemnist3d": MedSet("CT", "chest", ("benign", "malignant"), ((1158, 165, 310),), volumes=True),
    "adrenalmnist3d": MedSet("CT", "adrenal", ("normal", "hyperplasia"), ((1188, 98, 298),), volumes=True),
    "fracturemnist3d": MedSet("CT", "ribs", (
        "buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"), ((1027, 103, 240),), volumes=True),
    "vesselmnist3d": MedSet("MR", "brain vessels", ("vessel", "aneurysm"), ((1335, 191, 382), (1335, 192, 382)), volumes=True),
    "synapsemnist3d": MedSet("EM", "synapse", ("inhibitory synapse", "excitatory synapse"), ((1230, 177, 352),), volumes=True),
}  # fmt: skip

_FORMER = {"organmnist_axial": "organamnist", "organmnist_coronal": "organcmnist", "organmnist_sagittal": "organsmnist"}


def known_set(stem: str) -> MedSet | None:
    """A file's name without suffix -> the set it is of: 'BreastMNIST_224', 'breastmnist_resaved'; None for others."""
    name = stem.lower()
    former = next((now for before, now in _FORMER.items() if name.startswith(before)), None)
    found = re.match(r"[a-z]+mnist(3d)?(?![a-z0-9])", name)
    return SETS.get(former or (found.group(0) if found else ""))


def published_size(stem: str) -> int | None:
    """Pixels a side that a file's name promises: breastmnist_224 -> 224, breastmnist -> 28; None where it says nothing."""
    found = re.fullmatch(r"(organmnist_(?:axial|coronal|sagittal)|[a-z]+mnist(?:3d)?)(?:_(\d+))?", stem.lower())
    return int(found.group(2) or 28) if found and known_set(stem) else None


def same_images(stems: Iterable[str]) -> list[str]:
    """Files' names, without suffix, that are one published set at several sizes, the smallest size first; [] where there are none.

    Row n of a set's array is the same image at every size.
    """
    found: dict[str, list[str]] = {}
    for stem in stems:
        if published_size(stem):
            found.setdefault(re.sub(r"_\d+$", "", stem.lower()), []).append(stem)
    several = [
        sorted(group, key=lambda stem: (published_size(stem), stem)) for group in found.values() if len(group) > 1
    ]
    return min(several, default=[])
