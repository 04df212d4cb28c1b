"""A study's datasets as views, and the statements of sql/report/ asked over them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from cbmir.errors import UserError
from cbmir.fresh import Now, search_again
from cbmir.origin import vectors_run
from cbmir.schemas import METRICS
from cbmir.select import attach, attach_manifest, connect
from cbmir.sql_files import bind, create, read
from cbmir.store import Study, path_name
from cbmir.views import is_approximate
from cbmir.volumetric.place import STAGE, slices_of

_RUNS = pa.schema(
    [
        ("dataset", pa.string()),
        ("encoder", pa.string()),
        ("index", pa.string()),
        ("parameters", pa.string()),
        ("question", pa.string()),
        ("approximate", pa.bool_()),
        ("dim", pa.int64()),
        ("random_weights", pa.bool_()),
        ("queries_asked", pa.int64()),
        ("not_embedded", pa.int64()),
        ("gallery_embedded", pa.int64()),
        ("gallery_not_embedded", pa.int64()),
    ]
)
STUDIES = (
    "scaling",
    "search_effort",
    "image_sizes",
)  # whose figures need no metrics; their run.json says in `commands` what was asked for


class Sources:
    """Views manifest, metrics, failures; tables runs, searches; and the run.json of what was read.

    A study without metrics is read where one of STUDIES is there: `metrics_run` is None, and metrics have no row.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.manifest_run = study.require("manifest")
        self.now = Now(study)
        done = [name for name in STUDIES if self.now.is_fresh(name) and study.files(name)]
        self.studies_runs = {name: study.require(name) for name in done}
        self.metrics_run = study.run_of("metrics") if self.studies_runs else study.require("metrics")
        self.connection = connect()
        attach_manifest(self.connection, study)
        if self.metrics_run:
            attach(self.connection, "metrics", study, study.files("metrics"))
        else:
            self.connection.register("metrics", METRICS.empty_table())
        self._attach_failures()
        self.embeddings_runs = self._studied()
        self.neighbors_runs: dict[tuple[str, str], dict[str, Any]] = {}
        self._attach_searches()

    def rows(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of sql/report/<name>.sql."""
        text = read("report", name)
        return self.connection.sql(text, params=bind(text, parameters)).to_arrow_table().to_pylist()

    def table(self, table: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The same, kept as a table that other statements read."""
        create(self.connection, table, "report", name, **parameters)
        return self.connection.table(table).to_arrow_table().to_pylist()

    def _attach_failures(self) -> None:
        self.connection.execute(
            "CREATE TEMP TABLE failures (encoder TEXT, image_key BIGINT, uri TEXT, stage TEXT, error TEXT)"
        )
        for encoder in self.study.names("failures"):
            files = self.study.files("failures", f"encoder={path_name(encoder)}")
            if files:
                attach(self.connection, "failed_here", self.study, files)
                self.connection.execute(
                    "INSERT INTO failures SELECT $encoder, image_key, uri, stage, error FROM failed_here",
                    {"encoder": encoder},
                )

    def _attach_searches(self) -> None:
        pairs = "SELECT DISTINCT encoder, index FROM metrics WHERE metric = 'precision_at_k' ORDER BY ALL"
        found = [self._run_row(*pair) for pair in self.connection.execute(pairs).fetchall()]
        self.connection.register("runs", pa.Table.from_pylist(found, schema=_RUNS))
        self.searches = self.table("searches", "searches")

    def _studied(self) -> dict[str, dict[str, Any]]:
        """run.json of the encoders that samples and sweeps are of; a study of image sizes embeds its own."""
        samples, sweeps = ((self.studies_runs.get(name) or {"inputs": {}})["inputs"] for name in STUDIES[:2])
        names = dict.fromkeys([*(name.rsplit("/", 2)[0] for name in samples), *sweeps])
        runs = {name: self.study.run_of("embeddings", f"encoder={path_name(name)}") for name in names}
        return {name: run for name, run in runs.items() if run}

    def _run_row(self, encoder: str, index: str) -> dict[str, Any]:
        """What the run.json of one search and of its embeddings say of it."""
        run = self.study.require("neighbors", path_name(encoder), path_name(index))
        if self.now.outdated(encoder, run):
            raise UserError(
                f"{search_again(self.study, encoder, index, run)}, then: cbmir evaluate --study {self.study.address}"
            )
        if self.metrics_run["inputs"].get(f"{encoder} {index}") != run["fingerprint"]:
            raise UserError(
                f"the metrics are older than the neighbors of {encoder} by {index}; expected metrics of the search that is "
                "there; make them with: cbmir evaluate"
            )
        embeddings = vectors_run(self.study, encoder)
        self.neighbors_runs[encoder, index], self.embeddings_runs[encoder] = run, embeddings
        return {
            "dataset": "neighbors",
            "encoder": encoder,
            "index": index,
            "parameters": json.dumps(run["parameters"]),
            "question": run["question"],
            "approximate": is_approximate(run),
            "dim": embeddings["dim"],
            "random_weights": embeddings.get("random_weights") is not None,
            "queries_asked": run["queries"] + run["queries_not_embedded"],
            "not_embedded": run["queries_not_embedded"],
            "gallery_embedded": run["gallery"],
            "gallery_not_embedded": run["gallery_not_embedded"],
        }

    @property
    def is_of_volumes(self) -> bool:
        return self.manifest_run["stage"] == STAGE

    @property
    def has_hashed_ids(self) -> bool:
        """Whether ids are salted hashes: then nothing may tell what an image was called before."""
        run = slices_of(self.study).require("manifest") if self.is_of_volumes else self.manifest_run
        return any("salted" in note for note in run["parameters"].get("notes", ()))

    @property
    def last_run(self) -> dict[str, Any]:
        """run.json of the metrics, or of the last study where there are none."""
        return self.metrics_run or max(self.studies_runs.values(), key=lambda run: run.get("finished") or "")

    def random_encoders(self) -> set[str]:
        """Encoders whose weights were never trained, searched or not."""
        runs = {e: self.study.run_of("embeddings", f"encoder={path_name(e)}") for e in self.study.names("embeddings")}
        return {encoder for encoder, run in runs.items() if run and run.get("random_weights") is not None}

    def unscored(self) -> list[str]:
        """Searches that are finished but have no figures yet."""
        found = []
        for encoder in self.study.names("neighbors"):
            for index in self.study.names("neighbors", path_name(encoder)):
                scored = (encoder, index) in self.neighbors_runs
                if not scored and self.study.run_of("neighbors", path_name(encoder), path_name(index)):
                    found.append(f"{encoder} by {index}")
        return found
