"""A paper's protocol in one call, from its files to its table: Mahbod et al. 2024 over MedMNIST. What is done is skipped.

DIR/breastmnist_64           a study of the file; an image size other than the file's own is an encoder NAME~px28 in it
DIR/adrenalmnist3d_64        a study of the slices, and in `volumes` that of the volumes, whose vectors are NAME~concat64
DIR/adrenalmnist3d_64-zoom28 the same of volumes that are resampled to 28 voxels a side
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cbmir.as_published.mahbod2024 import KS, SEARCHES, Asked, Encoded, K, Line, lines, sets, table_text
from cbmir.datasets import Options
from cbmir.datasets.manifest import manifest_lines, write_manifest
from cbmir.datasets.medmnist_files import MedFile, look_at
from cbmir.datasets.medmnist_sets import SETS, published_size
from cbmir.embed import embed
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.plan import resolve_all
from cbmir.encoders.names import detailed, without_detail
from cbmir.encoders.table import LARGEST, LEAST_DETAIL
from cbmir.errors import UserError
from cbmir.evaluate import evaluate
from cbmir.evaluating.options import EvaluateOptions
from cbmir.evaluating.searches import find_searches
from cbmir.paper.comparable import identity
from cbmir.search import EXACT, SearchOptions, search
from cbmir.sizing.enlarged import enlarged_lines
from cbmir.sizing.weights import weights_at_sizes
from cbmir.store import Study, path_name
from cbmir.volumes import make_volumes, volume_name
from cbmir.volumetric.options import ReductionOptions
from cbmir.volumetric.place import within
from cbmir.volumetric.reductions import MOST, Reduction

Say = Callable[[str], None]


@dataclass(frozen=True)
class PublishedRunOptions:
    """What a person leaves to be decided; all else is the protocol's."""

    files: tuple[str, ...]
    sizes: tuple[int, ...] = ()  # pixels or voxels a side; none: each file's own
    embed: EmbedOptions = field(default_factory=EmbedOptions)
    resamples: int = EvaluateOptions.resamples
    csv: str | None = None  # where the table goes as well

    @property
    def evaluate(self) -> EvaluateOptions:
        return EvaluateOptions(ks=KS, resamples=self.resamples)

    def search(self, metric: str) -> SearchOptions:
        name = SEARCHES[metric][0]
        return SearchOptions(
            k=K, metric=metric, save_as=None if name == EXACT else name, device=self.embed.device, overwrite=self.embed.overwrite
        )  # fmt: skip

    def refuse_nonsense(self) -> None:
        """UserError for what cannot be."""
        self.embed.refuse_nonsense()
        self.evaluate.refuse_nonsense()
        if self.csv and not os.path.isdir(os.path.dirname(os.path.abspath(self.csv))):
            raise UserError(f"--csv {self.csv}: no such directory; expected a file to write in one that exists")


@dataclass(frozen=True)
class _Named:
    """An encoder at an image size: as `embed` is asked for it, and its name in the study."""

    asked: str
    name: str
    size: int


def run_mahbod2024(outer: Study, encoders: list[str], options: PublishedRunOptions, *, say: Say = print) -> list[Line]:
    """Every file at every size by every encoder, each file in a study of its own within `outer` -> the lines of the table, which is said.

    Misuse (UserError) is said before anything is made. Also raises what the stages raise.
    """
    options.refuse_nonsense()
    encoders = list(dict.fromkeys(encoders))
    files = [look_at(address) for address in dict.fromkeys(options.files)]
    _refuse_what_cannot_be(outer, files, encoders, options)
    found: list[Line] = []
    for file in files:
        sizes = options.sizes or (file.side,)
        made = (
            [_volumes(outer, file, size, encoders, options, say) for size in sizes]
            if file.known.volumes
            else _images(outer, file, encoders, options, say)
        )
        for asked in made:
            found += lines(asked)
    say(f"\n{table_text(found)}")
    return found


def _refuse_what_cannot_be(
    outer: Study, files: list[MedFile], encoders: list[str], options: PublishedRunOptions
) -> None:
    if outer.exists("manifest"):
        raise UserError(
            f"--study {outer.address} is a study; expected a directory for the studies that --as-published makes, one for each file; take another"
        )
    stems = [file.stem for file in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice:
        raise UserError(f"two files are called {twice}.npz; expected each set at each size once; leave one out")
    for encoder in encoders:
        detailed(encoder, LEAST_DETAIL)  # refuses names that say a size themselves
    for file in files:
        least, most = (2, min(file.side, MOST)) if file.known.volumes else (LEAST_DETAIL, LARGEST)
        wrong = [size for size in options.sizes or (file.side,) if not least <= size <= most]
        if wrong:
            what = f"volumes of {file.side} voxels" if file.known.volumes else f"images of {file.side} pixels"
            raise UserError(
                f"--sizes {wrong[0]}: {file.stem}.npz holds {what} a side; expected {least} to {most}"
                + ("; larger volumes are in the file of that size" if file.known.volumes else "")
            )
        _named(file, encoders, options)  # resolves every name


def _named(file: MedFile, encoders: list[str], options: PublishedRunOptions) -> tuple[list[_Named], EmbedOptions]:
    """Every encoder at every size of a file's study, and how all of them are embedded; volumes are resampled, not their slices."""
    sizes = (file.side,) if file.known.volumes else options.sizes or (file.side,)
    asked = [(encoder, size) for size in sizes for encoder in encoders]
    words = [encoder if size == file.side else detailed(encoder, size) for encoder, size in asked]
    given = {word: encoder for word, (encoder, _) in zip(words, asked, strict=True)}
    making = replace(options.embed, weights=weights_at_sizes(options.embed.weights, given))
    specs = resolve_all(words, making)
    return [_Named(word, spec.name, size) for word, spec, (_, size) in zip(words, specs, asked, strict=True)], making


def _images(outer: Study, file: MedFile, encoders: list[str], options: PublishedRunOptions, say: Say) -> list[Asked]:
    """All sizes of a file of images, in one study and one pass."""
    study = _manifest(outer, file, None, options, say)
    named, making = _named(file, encoders, options)
    embed(study, [one.asked for one in named], making, say=say)
    enlarged = [one for one in named if one.size > file.side]
    for line in enlarged_lines(study, [one.name for one in enlarged], tuple({one.size for one in enlarged})):
        say(line)
    _search(study, [one.name for one in named], "images", options, say)
    _evaluate(study, options, say)
    return [
        _asked(study, study, file, size, {one.name: one.name for one in named if one.size == size})
        for size in dict.fromkeys(one.size for one in named)
    ]


def _volumes(
    outer: Study, file: MedFile, size: int, encoders: list[str], options: PublishedRunOptions, say: Say
) -> Asked:
    """A file of volumes at one size."""
    slices = _manifest(outer, file, None if size == file.side else size, options, say)
    named, making = _named(file, encoders, options)
    embed(slices, [one.asked for one in named], making, say=say)
    reduction = Reduction("concat", size)
    how = ReductionOptions((reduction.name,), overwrite=making.overwrite, ray_address=making.ray_address)
    volumes, _ = make_volumes(slices, [one.name for one in named], how, say=say)
    vectors = {volume_name(one.name, reduction): one.name for one in named}
    _search(volumes, list(vectors), "volumes", options, say)
    _evaluate(volumes, options, say)
    return _asked(volumes, slices, file, size, vectors)


def _manifest(outer: Study, file: MedFile, zoom: int | None, options: PublishedRunOptions, say: Say) -> Study:
    """The study of a file, with its manifest."""
    study = within(outer, path_name(file.stem + (f"-zoom{zoom}" if zoom else "")))
    say(f"\n{study.address}")
    record, written = write_manifest(
        study, "medmnist", [file.address], Options(zoom=zoom), overwrite=options.embed.overwrite
    )
    for line in manifest_lines(record, written, study.address):
        say(line)
    return study


def _search(study: Study, names: list[str], what: str, options: PublishedRunOptions, say: Say) -> None:
    """The five nearest of each test image by both distances."""
    for name in names:
        for metric, (_, words) in SEARCHES.items():
            run, searched = search(study, name, EXACT, options.search(metric))
            say(
                f"search {EXACT} of {name}, {words}: {run['queries']:,} {what} in {run['gallery']:,}{'' if searched else ', already searched'}"
            )


def _evaluate(study: Study, options: PublishedRunOptions, say: Say) -> None:
    inputs = {searched.name: searched.run["fingerprint"] for searched in find_searches(study)}
    runs = [study.run_of(dataset) for dataset in ("comparisons", "metrics")]
    if all(run and run["inputs"] == inputs and run["parameters"] == options.evaluate.record() for run in runs):
        say("metrics: up to date")
        return
    run = evaluate(study, options.evaluate, say=say)
    say(f"metrics: {run['rows']:,} figures of {len(run['inputs'])} searches")


def _asked(study: Study, embedded: Study, file: MedFile, size: int, vectors: dict[str, str]) -> Asked:
    """What the table shows of a file at a size. vectors: name in the `study` of the figures -> the encoder's in that of the embeddings."""
    encoders = []
    for name, encoder in vectors.items():
        base, remark = identity(encoder, embedded.run_of("embeddings", f"encoder={path_name(encoder)}"))
        lost = study.require("neighbors", path_name(name), EXACT)["gallery_not_embedded"]
        lacking = f"{lost:,} of the gallery could not be embedded: see failures" if lost else None
        caveats = filter(None, [*_caveats(file, size), remark, lacking])
        encoders.append(Encoded(name, without_detail(encoder), base and without_detail(base), tuple(caveats)))
    printed = next((one for one in sets() if SETS[one.lower()] is file.known), None)
    return Asked(study, file.stem, printed, size, tuple(encoders))


def _caveats(file: MedFile, size: int) -> list[str]:
    """How the images differ from the published ones of that size."""
    said = []
    what = "volumes" if file.known.volumes else "images"
    if not file.is_whole:
        train, _, test = file.known.counts[-1]
        said.append(
            f"{file.stem}.npz has {file.train:,} training and {file.test:,} test {what}; published: {train:,} and {test:,}"
        )
    named = published_size(file.stem)
    if named not in (None, file.side):
        said.append(f"{file.stem}.npz has {what} of {file.side}; its name says {named}")
    if size != file.side:
        how = (
            "volumes resampled by cubic splines"
            if file.known.volumes
            else "images brought to that size by bicubic with antialias"
        )
        said.append(f"{how} from {file.stem}.npz of {file.side}; the paper takes a file of each size")
    return said
