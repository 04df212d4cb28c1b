"""The import rules of ARCHITECTURE.md, held; and that importing starts nothing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cbmir"
FILES = sorted(PACKAGE.rglob("*.py"))
ENGINES = (
    "ray",
    "torch",
    "timm",
    "open_clip",
    "duckdb",
    "usearch",
    "pydicom",
    "matplotlib",
    "rich",
    "sklearn",
    "huggingface_hub",
)

# part of the package -> what it may import of cbmir (prefixes); parts that are not listed here compose stages
MAY_IMPORT = {
    "errors": (),
    "patience": ("errors",),
    "whole": ("patience",),
    "schemas": ("schemas",),
    "stages": (),
    "commands": (),
    "store": ("patience", "schemas", "stages", "whole"),
    "select": ("errors", "store", "schemas"),
    "progress": (),
    "aligned": (),
    "cluster": ("errors", "patience"),
    "paper": (
        "paper",
        "datasets.medmnist_sets",
        "errors",
        "fresh",
        "references",
        "report.ranking",
        "report.sources",
        "schemas",
        "select",
        "sql_files",
        "store",
        "volumetric.place",
    ),
    "references": ("references", "schemas"),
    "sql_files": ("errors",),
    "phantoms": ("phantoms", "errors"),
    "images": ("images", "patience"),
    "encoders": ("encoders", "images.geometry", "errors", "progress"),
    "datasets": ("datasets", "errors", "progress", "schemas", "select", "store", "images"),
    "statistics": ("statistics",),
    "reducing.record": (
        "commands",
        "store",
    ),  # what `vectors` and others ask of a reduced encoder; `reducing` reads vectors
    "reducing": ("reducing", "errors", "progress", "store", "vectors"),
    "reduce": (
        "reducing",
        "embedding.account",
        "errors",
        "holding",
        "origin",
        "progress",
        "schemas",
        "select",
        "store",
        "vectors",
    ),
    "volumetric.place": ("schemas", "store"),  # what `origin` asks of a study of volumes; `volumetric` reads vectors
    "origin": ("commands", "errors", "reducing.record", "store", "volumetric.place"),
    "volumetric": (
        "volumetric",
        "cluster",
        "datasets.manifest",
        "errors",
        "origin",
        "schemas",
        "search",
        "searching",
        "select",
        "sql_files",
        "store",
        "vectors",
    ),
    "volumes": ("volumetric", "errors", "holding", "origin", "progress", "select", "store", "vectors"),
    "volume_search": (
        "volumetric",
        "errors",
        "exclusions",
        "origin",
        "progress",
        "schemas",
        "search",
        "searching",
        "store",
        "vectors",
        "volumes",
    ),
    "vectors": ("errors", "origin", "reducing.record", "store", "schemas"),
    "searching": ("searching", "cluster", "errors", "vectors"),
    "sampling": (),
    "embedding": ("embedding", "cluster", "encoders", "images", "errors", "progress", "schemas", "select", "store"),
    "embed": ("embedding", "cluster", "encoders", "errors", "select", "store"),
    "published": ("published", "errors", "schemas", "store"),
    "importing": ("published", "datasets.remarks", "errors", "progress", "schemas", "store"),
    "inspecting": ("inspecting", "cluster", "images", "progress", "schemas", "select", "sql_files", "store"),
    "inspection": ("inspecting", "cluster", "errors", "schemas", "select", "sql_files", "store"),
    "shrinking": (
        "shrinking",
        "cluster",
        "embedding.addresses",
        "embedding.times",
        "errors",
        "images",
        "progress",
        "schemas",
        "select",
        "store",
    ),
    "pack": (
        "shrinking",
        "cluster",
        "embedding.account",
        "embedding.addresses",
        "errors",
        "images.shrunk",
        "select",
        "store",
    ),
    "holding": ("store",),
    "indexing": ("indexing", "cluster", "errors", "holding", "progress", "searching", "select", "store", "vectors"),
    "index": ("holding", "indexing", "errors", "select", "store", "vectors"),
    "search": (
        "searching",
        "errors",
        "exclusions",
        "index",
        "indexing.opened",
        "origin",
        "progress",
        "schemas",
        "select",
        "store",
        "vectors",
    ),
    "evaluating": (
        "evaluating",
        "progress",
        "errors",
        "exclusions",
        "origin",
        "fresh",
        "schemas",
        "search",
        "select",
        "sql_files",
        "statistics",
        "store",
    ),
    "sampled": (
        "aligned",
        "commands",
        "sampled",
        "cluster",
        "errors",
        "evaluating",
        "exclusions",
        "index",
        "indexing",
        "progress",
        "sampling",
        "schemas",
        "search",
        "searching",
        "select",
        "sql_files",
        "statistics",
        "store",
        "vectors",
    ),
    "scaling": (
        "sampled",
        "errors",
        "evaluating.overlap",
        "exclusions",
        "holding",
        "progress",
        "search",
        "store",
        "vectors",
    ),
    "sweeping": (
        "sweeping",
        "aligned",
        "commands",
        "errors",
        "evaluating",
        "exclusions",
        "index",
        "indexing.codec",
        "indexing.tune",
        "progress",
        "schemas",
        "search",
        "searching",
        "select",
        "sql_files",
        "store",
        "vectors",
    ),
    "sizing": (
        "sizing",
        "aligned",
        "embedding.options",
        "encoders.names",
        "encoders.table",
        "errors",
        "evaluating",
        "search",
        "select",
        "sql_files",
        "store",
    ),
    "image_sizes": (
        "commands",
        "sizing",
        "datasets.medmnist_sets",
        "embed",
        "embedding",
        "encoders.names",
        "encoders.table",
        "errors",
        "evaluate",
        "evaluating",
        "exclusions",
        "schemas",
        "search",
        "select",
        "store",
    ),
    "effort": ("commands", "sweeping", "evaluating.overlap", "holding", "searching", "store", "vectors"),
    "evaluate": ("as_published", "classifying", "evaluating", "errors", "progress", "store"),
    "as_published": ("as_published", "classifying", "errors", "references", "select", "sql_files", "store"),
    "classifying": ("classifying", "commands", "errors", "schemas", "select", "sql_files", "store", "vectors"),
    "probe": ("classifying", "errors", "progress", "schemas", "searching.searchers", "select", "store", "vectors"),
    "querying": (
        "querying",
        "datasets.dicom_files",
        "datasets.dicom_series",
        "datasets.folder",
        "datasets.listing",
        "datasets.remarks",
        "encoders",
        "errors",
        "images",
        "patience",
        "reducing",
        "select",
        "store",
        "vectors",
    ),
    "removing": (
        "removing",
        "commands",
        "datasets.manifest",
        "datasets.remarks",
        "embedding.account",
        "errors",
        "fresh",
        "indexing.forget",
        "origin",
        "reducing.record",
        "schemas",
        "select",
        "store",
        "volumetric.place",
    ),
    "removal": (
        "removing",
        "datasets.presence",
        "errors",
        "indexing.forget",
        "origin",
        "reducing.record",
        "schemas",
        "store",
        "volumetric.place",
    ),
    "fresh": ("commands", "exclusions", "origin", "store", "volumetric.place"),
    "exclusions": ("errors", "inspecting.alike", "select", "store"),
    "report": (
        "report",
        "commands",
        "errors",
        "fresh",
        "images",
        "origin",
        "patience",
        "schemas",
        "select",
        "sql_files",
        "store",
        "views",
        "volumetric.place",
    ),
    "report.charts": ("report.charts",),
    "views": ("fresh", "references", "schemas", "select", "sql_files", "stages", "store"),
    "session": ("errors", "schemas", "stages", "store", "views"),
    "frames": ("errors", "references", "schemas", "select", "stages", "store"),
}
COMMAND_LINE = ("cli", "cli_studies", "cli_volumes", "flags")  # which nothing else imports
# an engine may be imported only there
ENGINE_LIVES_IN = {
    "ray": ("cluster", "embedding", "indexing.build", "searching.spread", "sampled.spread", "volumetric.reduce"),
    "torch": (
        "classifying.linear",
        "encoders",
        "searching",
        "querying.held",
        "embedding.actor",
        "embedding.devices",
        "volumetric.held",
        "volumetric.late",
        "volumetric.reranking",
        "doctor",
    ),
    "timm": ("encoders",),
    "open_clip": ("encoders",),
    "usearch": ("indexing.graph",),
    "pydicom": ("images", "phantoms"),
    "matplotlib": ("report.charts",),
    "rich": ("progress",),
    "threadpoolctl": ("statistics", "searching.threads"),
    "transformers": (),  # an oracle of the tests
}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> list[str]:
    """Absolute names that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "cbmir" else [node.module]
            )
    return found


def fits(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_keep_the_rules(file):
    name = name_of(file)
    for imported in imports(file):
        if imported.startswith("cbmir."):
            target = imported.removeprefix("cbmir.")
            part = max((part for part in MAY_IMPORT if fits(name, (part,))), key=len, default="")
            if part in MAY_IMPORT:
                assert fits(target, MAY_IMPORT[part]), f"{name} imports {target}; allowed: {MAY_IMPORT[part]}"
            assert target.split(".")[0] not in COMMAND_LINE or name.split(".")[0] in (*COMMAND_LINE, "__main__"), (
                f"{name} imports {target}"
            )
        engine = imported.split(".")[0]
        if engine in ENGINE_LIVES_IN:
            assert fits(name, ENGINE_LIVES_IN[engine]), (
                f"{name} imports {engine}, which lives in {ENGINE_LIVES_IN[engine]}"
            )


def test_every_part_is_known_to_the_rules():
    composing = {
        "",
        "__main__",
        *COMMAND_LINE,
        "run",
        "leaderboard",
        "lookup",
        "query",
        "study",
        "doctor",
        "volume_lookup",
        "volume_query",
        "volume_run",
        "published_run",
    }
    parts = {name_of(file).split(".")[0] for file in FILES}
    assert parts == composing | {name.split(".")[0] for name in MAY_IMPORT}


def test_jobs_hold_no_logic():
    from cbmir.flags import COMMANDS

    jobs = sorted((ROOT / "jobs").glob("*.py"))
    commands = {re.sub("[ -]", "_", command): command for command in COMMANDS}
    assert {job.stem for job in jobs} == set(commands)
    for job in jobs:
        tree = ast.parse(job.read_text())
        assert set(imports(job)) == {"sys", "cbmir.cli"}
        assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.For, ast.While))]
        words = ", ".join(f'"{word}"' for word in commands[job.stem].split())
        assert f"main([{words}, *sys.argv[1:]])" in job.read_text()


def test_no_module_is_called_utils_and_none_is_too_long():
    assert not [f for f in FILES if "util" in f.stem]
    long = {name_of(f): n for f in FILES if (n := len(f.read_text().splitlines())) > 320}
    assert not long, f"asking to be two: {long}"


def test_importing_any_module_starts_nothing():
    """One fresh interpreter imports everything; no Ray, no thread, no socket, no CUDA."""
    modules = [f"cbmir.{name_of(f)}".rstrip(".") for f in FILES if f.stem != "__main__"]
    code = f"""
import socket, sys, threading, importlib
def refuse(*a, **k): raise AssertionError("network at import")
socket.create_connection = refuse
socket.getaddrinfo = refuse
before = threading.active_count()
for name in {modules!r}:
    importlib.import_module(name)
import torch
assert not torch.cuda.is_initialized()
if "ray" in sys.modules:
    import ray
    assert not ray.is_initialized()
assert threading.active_count() == before, threading.enumerate()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "module", ["cli", "flags", "embedding.decode", "images.read", "query", "schemas", "store", "select", "study"]
)
def test_light_modules_stay_light(module):
    """Decode tasks and --help must not wait for torch."""
    code = f"import sys, cbmir.{module}; print([m for m in ('torch', 'ray', 'timm', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
