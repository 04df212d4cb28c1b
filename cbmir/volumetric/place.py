"""The study of volumes: a study like any other, whose images are volumes, in the directory `volumes` of the study whose images are their slices."""

from __future__ import annotations

import posixpath

from cbmir.schemas import ContractError
from cbmir.store import Study, path_name

DIRECTORY = "volumes"
STAGE = "volumes"  # in the run.json of its manifest, and of vectors that slices were reduced to


def volumes_of(slices: Study) -> Study:
    """The study of volumes of a study of images; it need not be there yet."""
    return within(slices, DIRECTORY)


def within(outer: Study, directory: str) -> Study:
    """The study in a directory of another one's."""
    place, mark, options = outer.address.partition("?")  # of an object store: s3://bucket/study?endpoint_override=...
    return Study(f"{place.rstrip('/')}/{directory}{mark}{options}")


def slices_of(volumes: Study) -> Study:
    """The study of images that a study of volumes was made of."""
    place, mark, options = volumes.address.partition("?")
    return Study(f"{posixpath.dirname(_whole(place, volumes))}{mark}{options}")


def _whole(place: str, study: Study) -> str:
    """A local address as an absolute path: 'volumes' and '.' do not show what they lie in."""
    return study.root if study.is_local else place.rstrip("/")


def is_of_volumes(study: Study) -> bool:
    """Whether the images of a study are volumes."""
    run = study.run_of("manifest")
    return run is not None and run["stage"] == STAGE


def require_volumes(slices: Study) -> Study:
    """The study of volumes, made of the manifest that is there now; ContractError where it is none, or is older."""
    volumes = volumes_of(slices)
    made = f"cbmir volumes --study {slices.address} --encoder NAME"
    if not volumes.exists("manifest", "run.json"):
        raise ContractError(
            f"the study {slices.address} has no volumes yet; expected {volumes.address}; make them with: {made}"
        )
    if is_outdated(volumes):
        raise ContractError(f"{volumes.address} is older than the manifest of its slices; make it again with: {made}")
    return volumes


def is_outdated(volumes: Study) -> bool:
    """Whether the manifest of the slices has changed since the volumes were made of it."""
    now = slices_of(volumes).require("manifest")["fingerprint"]
    return volumes.require("manifest")["inputs"]["manifest"] != now


def made_of(volumes: Study, encoder: str) -> str | None:
    """Fingerprint of the slices' vectors as they are now, None where there are none."""
    run = slices_of(volumes).run_of("embeddings", f"encoder={path_name(encoder)}")
    return run and run["fingerprint"]
