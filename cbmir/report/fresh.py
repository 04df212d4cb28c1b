"""Whether a study's figures are of the images and vectors that there are now."""

from __future__ import annotations

from cbmir.store import Study, path_name


def is_fresh(study: Study, dataset: str) -> bool:
    """Whether a dataset is finished, and what its run.json names as its inputs is as it was then."""
    run = study.run_of(dataset)
    return (
        run is not None
        and bool(study.files(dataset))
        and all(_holds(study, name, made) for name, made in _one_each(run["inputs"]).items())
    )


def _one_each(inputs: dict[str, str]) -> dict[str, str]:
    """Inputs, of the samples of one encoder the first: they are of the same vectors, and there may be hundreds."""
    found: dict[str, tuple[str, str]] = {}
    for name, made in inputs.items():
        sample = name.rsplit("/", 2)
        found.setdefault(sample[0] if len(sample) == 3 and "-s" in sample[2] else name, (name, made))
    return dict(found.values())


def _holds(study: Study, name: str, made: str) -> bool:
    """`name`: a dataset, an encoder, an encoder and an index, or a sample of the index-size study. What is none of these is not judged."""
    manifest = (study.run_of("manifest") or {}).get("fingerprint")
    if name == "manifest":
        return made == manifest
    if embeddings := _embeddings(study, name):
        return made in (embeddings, f"{embeddings} {manifest}")
    encoder, _, index = name.rpartition(" ")
    if encoder and study.exists("neighbors", path_name(encoder)):
        return (study.run_of("neighbors", path_name(encoder), path_name(index)) or {}).get("fingerprint") == made
    sample = name.rsplit("/", 2)
    run = study.run_of("scaling_cells", *map(path_name, sample)) if len(sample) == 3 else None
    if run is None:
        return True
    return run["inputs"].get("manifest") == manifest and run["inputs"].get("embeddings") == _embeddings(
        study, sample[0]
    )


def _embeddings(study: Study, encoder: str) -> str | None:
    return (study.run_of("embeddings", f"encoder={path_name(encoder)}") or {}).get("fingerprint")
