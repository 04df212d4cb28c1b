"""Every finished dataset of a study as a view of DuckDB, and what one row of each is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from cbmir.references import published
from cbmir.schemas import CONTRACTS
from cbmir.select import attach, connect
from cbmir.sql_files import create_view
from cbmir.stages import MADE_BY
from cbmir.store import Study, path_name

VIEWS = {
    "manifest": "image",
    "remarks": "oddity of a source, with file and row",
    "image_facts": "image that manifest check has looked at",
    "problems": "problem that manifest check has found",
    "packed": "packed image",
    "packed_failures": "image that could not be packed",
    "embeddings": "encoder x image",
    "failures": "encoder x image that could not be embedded",
    "neighbors": "encoder x index x query x rank",
    "query_metrics": "encoder x index x query x metric x relevance x k",
    "metrics": "encoder x index x metric x relevance x k x slice x average",
    "comparisons": "two searches x metric x relevance x k x slice x average",
    "confusions": "encoder x index x label x label of the nearest neighbor",
    "hubness": "encoder x index x k",
    "classification": "encoder x classifier x split x metric x average",
    "predictions": "encoder x image x label",
    "scaling": "as metrics, for samples of the gallery (sampling, seed, gallery_size); these rows are in metrics, too",
    "scaling_costs": "encoder x index x sample: recall, seconds, bytes",
    "vanished": "encoder x sample x label that has nothing to find in it",
    "fits": "curve over gallery sizes x model x size predicted",
    "scaling_curves": "curve over gallery sizes x size: mean and range over the samples, and what its fit expects of larger ones",
    "search_effort": "encoder x type of graph x expansion x re-ranking x metric x k",
    "image_sizes": "encoder at an image size",
    "slices": "encoder x volume x slice: in a study of volumes",
    "matched_slices": "encoder x index x pair of volumes x pair of their nearest slices: in a study of volumes",
    "published": "published figure, as printed: paper x dataset x image size x encoder x metric x k; the same in every study",
    "runs": "dataset of the study, with what its run.json says",
    "searches": "search that has figures: the question that it asks, and whether it stands for its encoder",
}
_BY_INDEX = ("neighbors", "query_metrics", "matched_slices")
_FIGURES = ("metrics", "comparisons", "confusions", "hubness")
_STUDIES = ("scaling", "scaling_costs", "vanished", "fits", "search_effort", "image_sizes")
_RUNS = pa.schema(
    [("dataset", pa.string()), ("encoder", pa.string()), ("index", pa.string()), ("name", pa.string()), ("rows", pa.int64()),
     ("finished", pa.string()), ("random_weights", pa.int64()), ("parameters", pa.string()), ("fingerprint", pa.string()),
     ("question", pa.string()), ("approximate", pa.bool_()), ("queries_asked", pa.int64())]
)  # fmt: skip
_PARTS = "parts"  # schema of what the views are unions of, so that SHOW TABLES lists the views alone


def open_views(study: Study) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """A connection with a view for each finished dataset, and notes on what is unfinished or outdated."""
    study.require("manifest")
    opening = _Opening(study)
    opening.whole("manifest")
    opening.named("remarks", "stage")
    for dataset in ("image_facts", "problems"):
        opening.whole(dataset)
    opening.packed()
    opening.by_encoder("embeddings", "embeddings")
    opening.by_encoder("failures", "embeddings")
    opening.by_encoder("slices", "slices")
    for dataset in _BY_INDEX:
        opening.by_index(dataset)
    for dataset in (*_FIGURES[1:], *_STUDIES):
        opening.whole(dataset)
    opening.curves()
    opening.metrics()
    opening.named("classification", None)
    opening.by_encoder("predictions", "predictions")
    opening.indexes()
    opening.references()
    opening.note_what_is_outdated()
    opening.view_runs()
    opening.searches()
    return opening.connection, opening.notes


def listed(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of the study's views that are there, in the order of the way."""
    found = {row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
    return [name for name in VIEWS if name in found]


def catalog(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Lines: the name of each view, how many rows it has, and what there is a row for."""
    yield f"{'view':<16} {'rows':>13}  a row for each"
    for name in listed(connection):
        rows = connection.table(name).count("*").fetchall()[0][0]
        yield f"{name:<16} {rows:>13,}  {VIEWS[name]}"


def is_approximate(run: dict[str, Any]) -> bool:
    """Whether a search went through an index."""
    return run["parameters"]["index"] != "exact" and not run.get("by_slices")


@dataclass
class _Run:
    """One finished dataset, for the view `runs`."""

    dataset: str
    encoder: str
    index: str
    name: str
    run: dict[str, Any]


@dataclass
class _Opening:
    """The views of one study while they are made."""

    study: Study
    connection: duckdb.DuckDBPyConnection = field(default_factory=connect)
    notes: list[str] = field(default_factory=list)
    runs: list[_Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection.execute(f"CREATE SCHEMA {_PARTS}")

    def whole(self, dataset: str) -> None:
        """A dataset with one directory."""
        if self._finished(dataset):
            self._union(dataset, (), [((), (dataset,))])

    def metrics(self) -> None:
        """Figures of searches of the whole gallery, and of samples of it."""
        found = [dataset for dataset in ("metrics", "scaling") if dataset == "scaling" or self._finished(dataset)]
        self._union("metrics", (), [((), (dataset,)) for dataset in found if self.study.run_of(dataset)])

    def curves(self) -> None:
        """What samples of one size have in common; curves that nothing was fitted to are curves, too."""
        found = listed(self.connection)
        if "scaling" in found:
            if "fits" not in found:
                self.connection.execute(
                    f"CREATE VIEW fits AS FROM {self._table('_fits', CONTRACTS['fits'].empty_table())}"
                )
            create_view(self.connection, "scaling_curves", "report", "scaling_curves")

    def named(self, dataset: str, column: str | None) -> None:
        """A dataset with a directory a name, which stands in `column`; None: the rows say themselves what they are of."""
        names = [n for n in self.study.names(dataset) if self._finished(dataset, path_name(n), name=n)]
        values = [(n,) if column else () for n in names]
        self._union(
            dataset,
            (column,) if column else (),
            [(value, (dataset, path_name(n))) for value, n in zip(values, names, strict=True)],
        )

    def by_encoder(self, dataset: str, recorded: str) -> None:
        """A dataset with a directory an encoder, whose run.json is that of `recorded`."""
        parts = []
        for encoder in self.study.names(dataset):
            directory = f"encoder={path_name(encoder)}"
            if self._finished(dataset, directory, recorded=(recorded, directory), encoder=encoder):
                parts.append(((encoder,), (dataset, directory)))
        self._union(dataset, ("encoder",), parts)

    def by_index(self, dataset: str) -> None:
        """A dataset with a directory a search."""
        parts = []
        for encoder in self.study.names(dataset):
            for index in self.study.names(dataset, path_name(encoder)):
                address = (dataset, path_name(encoder), path_name(index))
                if self._finished(*address, encoder=encoder, index=index):
                    parts.append(((encoder, index), address))
        self._union(dataset, ("encoder", "index"), parts)

    def packed(self) -> None:
        """Views packed and packed_failures, which have one run.json."""
        if self._finished("packed"):
            for dataset in ("packed", "packed_failures"):
                self._union(dataset, (), [((), (dataset,))])

    def indexes(self) -> None:
        """Indexes have no rows for SQL, but a run.json."""
        for encoder in self.study.names("index"):
            for index in self.study.names("index", path_name(encoder)):
                self._finished("index", path_name(encoder), path_name(index), encoder=encoder, index=index)

    def references(self) -> None:
        """View published: what comes with cbmir, not with the study."""
        self.connection.execute(f"CREATE VIEW published AS FROM {self._table('_published', published())}")

    def _finished(
        self, *address: str, recorded: tuple[str, ...] = (), encoder: str = "", index: str = "", name: str = ""
    ) -> bool:
        """Whether a dataset is there with its run.json, which is kept; a dataset without it is noted."""
        dataset = address[0]
        run = self.study.run_of(*(recorded or address))
        if run is None:
            if self.study.exists(*address):
                whose = f"{' of ' + encoder if encoder else ''}{' by ' + index if index else ''}{' ' + name if name else ''}"
                self.notes.append(f"{dataset}{whose}: unfinished and left out; finish it with: {MADE_BY[dataset]}")
            return False
        if not recorded or recorded == address:
            self.runs.append(_Run(dataset, encoder, index, name, run))
        return True

    def _union(self, view: str, names: tuple[str, ...], parts: list[tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
        """View over the files of several encoders, indexes or names, which become its first columns."""
        selects = []
        for i, (values, address) in enumerate(parts):
            files = self.study.files(*address)
            if files:
                part = self._attach(f"_{view}_{i}", files)
                columns = [f'{_quoted(value)} AS "{name}"' for name, value in zip(names, values, strict=True)]
                selects.append(f"SELECT {', '.join([*columns, '*'])} FROM {part}")
        if not selects and view in ("failures", "packed", "packed_failures") and (parts or view == "failures"):
            part = self._table(f"_{view}", CONTRACTS[view].empty_table())  # none is good news, and still a table
            columns = [f"'' AS {name}" for name in names]
            selects = [f"SELECT {', '.join([*columns, '*'])} FROM {part}"]
        if selects:
            self.connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(selects)}")

    def _attach(self, part: str, files: list[str]) -> str:
        """Name by which SQL finds the files; those of an object store are registered, which puts them among temporary views."""
        self.connection.execute(f"SET schema = '{_PARTS}'")
        attach(self.connection, part, self.study, files)
        self.connection.execute("SET schema = 'main'")
        return f"{_PARTS}.{part}" if self.study.is_local else part

    def _table(self, part: str, rows: pa.Table) -> str:
        """Name by which SQL finds rows that are in no file."""
        self.connection.register("_rows", rows)
        self.connection.execute(f"CREATE TABLE {_PARTS}.{part} AS FROM _rows")
        self.connection.unregister("_rows")
        return f"{_PARTS}.{part}"

    def note_what_is_outdated(self) -> None:
        """Figures that were made of other searches than there are now."""
        searches = {(r.encoder, r.index): r.run["fingerprint"] for r in self.runs if r.dataset == "neighbors"}
        now = {f"{encoder} {index}": made for (encoder, index), made in searches.items()}
        old = {r.dataset for r in self.runs if r.dataset in _FIGURES and r.run["inputs"] != now}
        for run in self.runs:
            if run.dataset == "query_metrics":
                made = searches.get((run.encoder, run.index))
                old |= {run.dataset} if run.run["inputs"] != {"neighbors": made} else set()
        if old:
            which = ", ".join(name for name in VIEWS if name in old)
            self.notes.append(
                f"older than the searches: {which}; make them again with: cbmir evaluate --study {self.study.address}"
            )

    def view_runs(self) -> None:
        """runs: what each dataset's run.json says, one row a dataset; of an encoder's searches and indexes, too, whether its weights are random."""
        random = {
            run.encoder: run.run.get("random_weights") for run in self.runs if run.dataset in ("embeddings", "slices")
        }
        rows = [
            {
                "dataset": run.dataset,
                "encoder": run.encoder,
                "index": run.index,
                "name": run.name,
                "rows": run.run.get("rows"),
                "finished": run.run.get("finished"),
                "random_weights": random.get(run.encoder),
                "parameters": json.dumps(run.run.get("parameters")),
                "fingerprint": run.run.get("fingerprint"),
                "question": run.run.get("question"),
                "approximate": is_approximate(run.run) if run.dataset == "neighbors" else None,
                "queries_asked": _queries_asked(run.run),
            }
            for run in self.runs
        ]
        self.connection.execute(f"CREATE VIEW runs AS FROM {self._table('_runs', pa.Table.from_pylist(rows, _RUNS))}")

    def searches(self) -> None:
        """Which searches ask the same, of those that have figures."""
        if "metrics" in listed(self.connection):
            create_view(self.connection, "searches", "report", "searches")


def _queries_asked(run: dict[str, Any]) -> int | None:
    """Queries of a search, embedded or not; None of what is no search."""
    return run["queries"] + run["queries_not_embedded"] if "queries_not_embedded" in run else None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
