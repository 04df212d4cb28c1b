"""Whether what was made of other datasets is of those that there are now: one answer for searches, figures, reports, views and removals.

The `inputs` of a run.json name what its dataset was made of, with the fingerprints of then.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from cbmir.commands import line, volume_search_words
from cbmir.exclusions import duplicates_digest
from cbmir.origin import is_older
from cbmir.store import Study, path_name
from cbmir.volumetric.place import DIRECTORY, slices_of

_OF_SEARCHES = (
    "metrics",
    "comparisons",
    "confusions",
    "hubness",
    "classification",
)  # which name each as 'encoder index'
_OF_SAMPLES = ("scaling", "scaling_costs", "vanished", "fits")  # which name each as 'encoder/index/sample'
_OF_FIGURES = ("report", "figures", "paper")  # which name datasets


def outdated(study: Study, encoder: str, run: dict[str, Any]) -> bool:
    """Whether what a run.json of one encoder names as its inputs has changed since: manifest, embeddings, index, or the duplicates passed over;
    or, of vectors that were made of others, and of volumes that are searched by their slices, those."""
    return Now(study).outdated(encoder, run)


def is_fresh(study: Study, *parts: str) -> bool:
    """Whether a dataset is finished, and everything that it was made of is as it was then and fresh itself."""
    return Now(study).is_fresh(*parts)


def search_again(study: Study, encoder: str, index: str, run: dict[str, Any]) -> str:
    """A line about an outdated search: what it is older than, and the command that makes it again."""
    asked = run["parameters"]["index"]
    made = "the index or the duplicates found" if "duplicates" in run["inputs"] else "the index"
    name = f" --save-as {index}" if index != asked else ""
    if run.get("by_slices"):
        again = line(volume_search_words(encoder, run["parameters"], slices_of(study).address))
        return f"neighbors of {encoder} by {index} are older than the volumes, their slices or their vectors; search again: {again}"
    return (
        f"neighbors of {encoder} by {index} are older than the manifest, the embeddings or {made}; search "
        f"again, with the same flags: cbmir search --study {study.address} --encoder {encoder} --index {asked}{name}"
    )


class Now:
    """The run.json of a study as they are while it is asked; each is read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._runs: dict[tuple[str, ...], dict[str, Any] | None] = {}
        self._fresh: dict[tuple[str, ...], bool] = {}

    def is_fresh(self, *parts: str) -> bool:
        """As the function of the same name."""
        if parts not in self._fresh:
            run = self._run(
                *parts, *(("manifest",) if parts == (DIRECTORY,) else ())
            )  # a study of volumes is as old as its manifest
            self._fresh[parts] = run is not None and self._holds(parts, run)
        return self._fresh[parts]

    def outdated(self, encoder: str, run: dict[str, Any]) -> bool:
        """As the function of the same name."""
        asked = run["parameters"].get("index") or ""
        places = {
            "manifest": ("manifest",),
            "embeddings": ("embeddings", f"encoder={path_name(encoder)}"),
            "slices": ("slices", f"encoder={path_name(encoder)}"),
            "candidates": ("embeddings", f"encoder={path_name(f'{encoder}~mean')}"),
            "index": ("index", path_name(encoder), path_name(asked)),
        }
        vectors = [self._run(*places[name]) for name in ("embeddings", "slices")]
        if any(made and is_older(self.study, made) for made in vectors):
            return True
        if "duplicates" in run["inputs"] and duplicates_digest(self.study) != run["inputs"]["duplicates"]:
            return True
        return any(self._made(*places[name]) != made for name, made in run["inputs"].items() if name in places)

    def _run(self, *parts: str) -> dict[str, Any] | None:
        if parts not in self._runs:
            self._runs[parts] = self.study.run_of(*parts)
        return self._runs[parts]

    def _made(self, *parts: str) -> str | None:
        """The fingerprint of a dataset, None where it is not there."""
        return (self._run(*parts) or {}).get("fingerprint")

    def _holds(self, parts: tuple[str, ...], run: dict[str, Any]) -> bool:
        if parts[0] == "embeddings":
            return not is_older(self.study, run)
        if parts[0] == "slices":
            return not is_older(self.study, run) and run["inputs"]["manifest"] == self._made("manifest")
        if parts[0] == "neighbors" or "embeddings" in run["inputs"]:
            return not self.outdated(_encoder(parts, run), run)
        inputs = _one_each(run["inputs"]) if parts[0] in _OF_SAMPLES else run["inputs"]
        return all(self._is_as_it_was(parts, name, made) for name, made in inputs.items())

    def _is_as_it_was(self, parts: tuple[str, ...], name: str, made: str) -> bool:
        """Whether one input of a dataset holds. What is not known is not judged."""
        if name == "manifest":
            return made == self._made("manifest")
        if name == "neighbors":
            return self._is_the_same(made, "neighbors", *parts[1:])
        if name == "slices":
            names = map(path_name, self.study.names("slices"))
            return any(self._is_the_same(made, "slices", f"encoder={encoder}") for encoder in names)
        if name in ("neighbors_val", "neighbors_test"):
            return self._has_search(parts[2], made)
        if parts[0] in _OF_SEARCHES:
            encoder, _, index = name.rpartition(" ")
            return self._is_the_same(made, "neighbors", path_name(encoder), path_name(index))
        if parts[0] in _OF_FIGURES:
            return self._is_the_same(made, name)
        return self._vectors_hold(name, made)

    def _is_the_same(self, made: str, *parts: str) -> bool:
        return self._made(*parts) == made and self.is_fresh(*parts)

    def _has_search(self, encoder: str, made: str) -> bool:
        """Whether a search of an encoder (as in a path) is still there."""
        names = map(path_name, self.study.names("neighbors", encoder))
        return any(self._is_the_same(made, "neighbors", encoder, name) for name in names)

    def _vectors_hold(self, name: str, made: str) -> bool:
        """`name`: an encoder, or a sample of the index-size study: 'encoder/index/sample'."""
        vectors = self._run("embeddings", f"encoder={path_name(name)}")
        if vectors is not None:
            now = vectors["fingerprint"]
            return made in (now, f"{now} {self._made('manifest')}") and not is_older(self.study, vectors)
        sample = name.rsplit("/", 2)
        run = self._run("scaling_cells", *map(path_name, sample)) if len(sample) == 3 else None
        return run is None or not self.outdated(sample[0], run)


def _encoder(parts: tuple[str, ...], run: dict[str, Any]) -> str:
    """The encoder that a dataset is of: run.json of a probe says it, of others their place does."""
    return (
        run["parameters"].get("encoder") if parts[0] == "classification" else unquote(parts[1].removeprefix("encoder="))
    )


def _one_each(samples: dict[str, str]) -> dict[str, str]:
    """The first sample of each encoder: all are of the same vectors, and there may be hundreds."""
    found: dict[str, tuple[str, str]] = {}
    for name, made in samples.items():
        found.setdefault(name.rsplit("/", 2)[0], (name, made))
    return dict(found.values())
