"""Which images are smaller than the size that is asked for: enlarged, they show no more than before."""

from __future__ import annotations

from cbmir.select import attach, attach_manifest, connect
from cbmir.store import Study, path_name


def enlarged_lines(study: Study, names: list[str], sizes: tuple[int, ...]) -> list[str]:
    """One line for each size that some images do not have: they hold no more than they did before."""
    told = _smaller_by_facts(study, sizes) if study.run_of("image_facts") else _smaller_by_embedding(study, names)
    return [
        f"{count:,} of {total:,} images{where} are smaller than {size} pixels and are enlarged to it: at {size} they show no more than they have"
        for size, (count, total, where) in sorted(told.items())
        if count
    ]


def _smaller_by_facts(study: Study, sizes: tuple[int, ...]) -> dict[int, tuple[int, int, str]]:
    """Size -> (images with a smaller side, images looked at, ''), by what `cbmir manifest check` found."""
    connection = connect()
    attach_manifest(connection, study)
    attach(connection, "facts", study, study.files("image_facts"))
    text = "SELECT count(*) FILTER (WHERE least(width, height) < $size), count(*) FROM facts SEMI JOIN manifest USING (image_key) WHERE width IS NOT NULL"
    return {size: (*connection.execute(text, {"size": size}).fetchall()[0], "") for size in sizes}


def _smaller_by_embedding(study: Study, names: list[str]) -> dict[int, tuple[int, int, str]]:
    """The same of the images of each encoder's last attempt, which decoded them."""
    found: dict[int, tuple[int, int, str]] = {}
    for name in names:
        attempt = study.require("embeddings", f"encoder={path_name(name)}").get("last_attempt") or {}
        for size, count in attempt.get("enlarged", {}).items():
            found[int(size)] = (count, attempt["images"], " that were embedded last")
    return found
