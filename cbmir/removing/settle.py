"""run.json after a removal: counts and fingerprints as the stages would write them now, so that none finds work to do that was done."""

from __future__ import annotations

from typing import Any

from cbmir.datasets.manifest import content_hash
from cbmir.datasets.remarks import summary
from cbmir.embedding.account import counted, embedded_digest
from cbmir.reducing.record import is_reduced
from cbmir.removing.layout import FIGURES, names_of, places
from cbmir.select import PACKED_LEDGER, embedded_by
from cbmir.store import Study, fingerprint


def fingerprints(study: Study) -> dict[str, str]:
    """What other datasets name as their inputs: the manifest, its content, and each encoder's embeddings."""
    manifest = study.require("manifest")
    found = {"manifest": manifest["fingerprint"], "content": manifest["inputs"]["content"]}
    for parts in places(study, {"embeddings": 1}):
        run = study.run_of(*parts)
        if run is not None:
            found["/".join(parts)] = run["fingerprint"]
    return found


def settle_manifest(study: Study) -> None:
    """Rows, content and remarks of the manifest; `removed` adds up the images that were ever removed from it."""
    run = study.require("manifest")
    rows = _rows(study, ("manifest",))
    if rows != run["rows"]:
        run["removed"] = run.get("removed", 0) + run["rows"] - rows
        run["rows"] = rows
    run["inputs"] = {"content": content_hash(study.dataset("manifest").to_table())}
    if study.files("remarks", "manifest"):
        run["remarks"] = summary(study.dataset("remarks", "manifest").to_table())
    _write(study, ("manifest",), run)


def settle_rest(study: Study, was: dict[str, str]) -> None:
    """run.json of what has rows of images or remarks; `was`: `fingerprints` before the removal."""
    for parts in places(study, {"remarks": 1, "image_facts": 0, "packed": 0, "embeddings": 1, "failures": 1}):
        run = study.run_of(*parts)
        if run is not None:
            if not is_reduced(run):  # its axes were fitted with the images that go: outdated, it is fitted again
                run["inputs"] = _renamed(study, run["inputs"], was)
            _recount(study, parts, run)
            _write(study, parts, run)


def settle_index(study: Study, parts: tuple[str, ...], was: dict[str, str]) -> None:
    """An index that was up to date stays so: it names the manifest and the embeddings of now as its inputs."""
    run = study.run_of(*parts)
    if run is not None:
        run["inputs"] = _renamed(study, run["inputs"], was)
        _write(study, parts, run)


def settle_figures(study: Study, was: dict[str, str]) -> None:
    """Figures that a removal has left are current, and stay so: they name the embeddings and the figures of now as their inputs."""
    now = fingerprints(study)
    changed = {old: now[name] for name, old in was.items() if now.get(name, old) != old}
    for parts in places(study, FIGURES) if changed else ():
        run = study.run_of(*parts)
        if run is None:  # a study of volumes: it has a run.json for each of its own datasets
            continue
        inputs = {name: _exchanged(value, changed) for name, value in run["inputs"].items()}
        if inputs != run["inputs"]:
            settled = run | {"inputs": inputs}
            _write(study, parts, settled)
            changed[run["fingerprint"]] = fingerprint(settled["stage"], settled["parameters"], inputs)


def _exchanged(value: Any, changed: dict[str, str]) -> Any:
    """A fingerprint, or two with a space between them."""
    return " ".join(changed.get(word, word) for word in value.split(" ")) if isinstance(value, str) else value


def _recount(study: Study, parts: tuple[str, ...], run: dict[str, Any]) -> None:
    """Counts of one dataset, and the digest of the vectors that there are."""
    if parts[0] == "embeddings":
        (encoder,) = names_of(parts)
        run["rows"], run["failed"], _ = counted(study, embedded_by(encoder))
        if "embedded" in run["inputs"]:
            run["inputs"]["embedded"] = embedded_digest(study, encoder)
    elif parts[0] == "packed":
        run["rows"], run["failed"], _ = counted(study, PACKED_LEDGER)
        run["bytes"] = sum(info.size for info in study.fs.get_file_info(study.files("packed")))
    else:
        run["rows"] = _rows(study, parts)


def _rows(study: Study, parts: tuple[str, ...]) -> int:
    return study.dataset(*parts).count_rows() if study.files(*parts) else 0


def _renamed(study: Study, inputs: dict[str, Any], was: dict[str, str]) -> dict[str, Any]:
    """Inputs with the fingerprints of before replaced by those of now; others were outdated, and stay so."""
    now = fingerprints(study)
    changed = {old: now[name] for name, old in was.items() if name in now}
    return {name: changed.get(value, value) if isinstance(value, str) else value for name, value in inputs.items()}


def _write(study: Study, parts: tuple[str, ...], run: dict[str, Any]) -> None:
    """run.json with the fingerprint that its parameters and inputs have now."""
    study.write_json(
        run | {"fingerprint": fingerprint(run["stage"], run["parameters"], run["inputs"])}, *parts, "run.json"
    )
