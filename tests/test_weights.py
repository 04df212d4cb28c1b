"""Weights from hub, web, object store and disk: fetched from real servers on loopback, and read from real files.

The hub's server answers as huggingface.co does for /OWNER/NAME/resolve/REVISION/FILE: its headers, its redirect of large
files to another host, and its X-Error-Code for what it refuses.
"""

import hashlib
import http.client
import io
import logging
import os
import pickle
import random
import re
import socket
import struct
import threading
import time
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import flask
import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from werkzeug.serving import make_server

from cbmir.cli import main
from cbmir.encoders import modules
from cbmir.encoders.addresses import HubFile, LocalFile, StoredFile, WebFile, parse
from cbmir.encoders.build import build
from cbmir.encoders.fetch import Reach, fetch, file_sha256, obtain, present
from cbmir.encoders.spec import EncoderSpec
from cbmir.encoders.state import read_state, state_sha256
from cbmir.encoders.table import resolve
from cbmir.errors import UserError
from tests.processes import cbmir

COMMIT, OLDER = "a" * 40, "b" * 40
DATA = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass
class Repository:
    """What the hub knows of one; `members`: tokens of those who accepted the license, None where anybody may read."""

    files: dict[str, bytes]
    older: dict[str, bytes] = field(default_factory=dict)  # at the commit before
    members: tuple[str, ...] | None = None

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        return {"main": (COMMIT, self.files), COMMIT: (COMMIT, self.files), OLDER: (OLDER, self.older)}.get(revision)


@dataclass
class Server:
    """A hub and a web server on loopback, and what it was asked."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    pages: dict[str, flask.Response] = field(default_factory=dict)
    large: bool = False  # files lie on another host, as the hub's large ones do
    chunked: bool = False  # files lie in the hub's store of chunks, which hf_xet reads
    token_status: int = 200  # of the token for that store, which never comes
    status: int | None = None  # every answer is this error
    cut: int = 0  # so many downloads more end in the middle
    log: list[str] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)  # request for a file -> its Authorization header

    @property
    def asked(self) -> list[str]:
        """Requests for files; the hub's library asks for other things of its own accord, once a process."""
        return [line for line in self.log if " /api/" not in line]

    def put(self, path: str, data: bytes, **headers: str) -> str:
        """A file for the web -> its address."""
        self.pages[path] = flask.Response(data, content_type="application/octet-stream")
        self.pages[path].headers.update(headers)
        return f"{self.url}/web/{path}"


def application(server: Server) -> flask.Flask:
    app = flask.Flask("loopback")

    @app.before_request
    def note():
        line = f"{flask.request.method} {flask.request.path}"
        server.log.append(line)
        if " /api/" not in line:
            server.tokens[line] = flask.request.headers.get("Authorization")
        return error(server.status, "", "") if server.status else None

    @app.get("/web/<path:path>")
    def page(path: str):
        found = server.pages.get(path)
        return whole_or_cut(found.data, dict(found.headers)) if found else error(404, "", "")

    @app.get("/api/token")
    def token():
        return flask.Response("", server.token_status)

    @app.get("/large/<etag>")
    def stored(etag: str):
        files = [d for r in server.repositories.values() for d in r.files.values()]
        return whole_or_cut(next(d for d in files if hashlib.sha256(d).hexdigest() == etag), {})

    @app.get("/<owner>/<name>/resolve/<revision>/<path:file>")
    def hub(owner: str, name: str, revision: str, file: str):
        token = (flask.request.headers.get("Authorization") or "").removeprefix("Bearer ")
        repository = server.repositories.get(f"{owner}/{name}")
        if token == "expired":
            return error(401, "", "Invalid credentials in Authorization header")
        if repository is None:  # the hub does not tell strangers what there is
            return error(404 if token else 401, "RepoNotFound", "Repository not found")
        if repository.members is not None and token not in repository.members:
            return error(403 if token else 401, "GatedRepo", f"Access to model {owner}/{name} is restricted")
        found = repository.at(revision)
        if found is None:
            return error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = found
        if file not in files:
            return error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        etag = hashlib.sha256(files[file]).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if server.chunked:
            headers |= {"X-Xet-Hash": "c" * 64, "X-Xet-Refresh-Route": f"{server.url}/api/token"}
        if server.large:
            place = server.url.replace("127.0.0.1", "localhost") + f"/large/{etag}"
            linked = {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(files[file])), "Location": place}
            return flask.Response(status=302, headers=headers | linked)
        return whole_or_cut(files[file], headers)

    def whole_or_cut(data: bytes, headers: dict[str, str]) -> flask.Response:
        headers = {"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"} | headers
        if flask.request.method == "GET" and server.cut:
            server.cut -= 1
            data = data[: len(data) // 2]  # then the connection is closed
        return flask.Response(iter([data]), headers=headers)

    def error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> flask.Response:
        known = {"X-Error-Code": code, "X-Error-Message": message}
        return flask.Response("", status, headers={k: v for k, v in known.items() if v} | (headers or {}))

    return app


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server("")
    listening = make_server("127.0.0.1", 0, application(server), threaded=True)
    server.url = f"http://127.0.0.1:{listening.port}"
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield server
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    """The server as new."""
    running.__init__(running.url)
    return running


@pytest.fixture(autouse=True)
def world(running: Server, tmp_path, monkeypatch) -> Iterator[Path]:
    """Caches of this test alone, no token, no proxy, the hub on loopback; and libraries that try again at once."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "HUGGING_FACE_")):
            monkeypatch.delenv(name)
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", running.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "usual" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "usual" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    at_once = types.SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    monkeypatch.setattr(huggingface_hub.utils._http, "time", at_once)
    monkeypatch.setattr(huggingface_hub.file_download, "time", at_once)
    huggingface_hub.close_session()
    yield tmp_path / "usual"
    huggingface_hub.close_session()


@pytest.fixture
def reach(tmp_path) -> Reach:
    return Reach(cache=str(tmp_path / "weights"))


@pytest.fixture(scope="module")
def row() -> EncoderSpec:
    """A row of the table that stands for no published weights yet."""
    return replace(resolve("timm:test_vit"), name="tiny", checkpoint=None)


def refusal(act, *arguments) -> str:
    """The one line of a UserError."""
    with pytest.raises(UserError) as caught:
        act(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600, text
    return text


def files_below(folder: Path | str) -> list[str]:
    """Names of everything that holds bytes; the hub's own locks and marks aside."""
    found = [p for p in Path(folder).rglob("*") if p.is_file() and p.name not in ("CACHEDIR.TAG", ".gitignore")]
    return sorted(p.name for p in found if p.suffix != ".lock" and "refs" not in p.parts and ".no_exist" not in p.parts)


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (f"hf://o/n@{COMMIT}/w.bin", HubFile("o/n", COMMIT, ("w.bin",))),
        ("hf://o/n/w.bin", HubFile("o/n", "main", ("w.bin",))),
        ("hf://o/n@v1.0/sub/a.safetensors|b.bin", HubFile("o/n", "v1.0", ("sub/a.safetensors", "b.bin"))),
        ("https://h/a/b.pt?download=1", WebFile("https://h/a/b.pt?download=1", None)),
        ("https://h/d?id=1&x=t!in/b.pt", WebFile("https://h/d?id=1&x=t", "in/b.pt")),
        ("s3://bucket/a/b.pt", StoredFile("s3://bucket/a/b.pt")),
        ("gs://bucket/b.pt", StoredFile("gs://bucket/b.pt")),
        ("/a/b c.pt", LocalFile("/a/b c.pt")),
        ("file:///a/b%20c.pt", LocalFile("/a/b c.pt")),
        ("file://localhost/a/b.pt", LocalFile("/a/b.pt")),
    ],
)
def test_an_address_is_taken_apart(text, address):
    assert parse(text) == address


def test_a_path_means_the_same_from_everywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert parse("~/w.pt") == LocalFile(str(tmp_path / "home" / "w.pt"))
    assert parse("sub/../w.pt") == LocalFile(str(tmp_path / "w.pt"))
    assert parse(tmp_path.as_uri() + "/w.pt") == LocalFile(str(tmp_path / "w.pt"))


def test_a_revision_is_pinned_where_it_cannot_move():
    assert parse(f"hf://o/n@{COMMIT}/w").is_pinned
    for revision in ("main", "v1", COMMIT[:39], COMMIT.upper(), COMMIT + "a"):
        assert not parse(f"hf://o/n@{revision}/w").is_pinned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://o", "hf://OWNER/NAME@REVISION/FILE"),
        ("hf://o/n", "hf://OWNER/NAME@REVISION/FILE"),
        ("hf://o/n@main", "hf://OWNER/NAME@REVISION/FILE"),
        ("hf://o/n@/w", "hf://OWNER/NAME@REVISION/FILE"),
        ("hf://o/n@main/a|", "'|' between files"),
        ("hf://o/n/a b.pt", "hf://OWNER/NAME@REVISION/FILE"),
        ("file://w.pt", "file:///PATH"),
        ("ftp://h/w.pt", "begins with hf://, https://, s3:// or gs://"),
    ],
)
def test_what_is_no_address_is_refused(text, expected):
    found = refusal(parse, text)
    assert found.startswith(f"weights {text!r}; expected ")
    assert expected in found
    assert "check --weights" in found


@pytest.mark.parametrize("text", ["hf://o/n--m@main/w", "hf://o..o/n/w", "hf://o/n.git/w", "hf://o/n/../../w"])
def test_what_no_repository_can_have_is_refused_before_anything_is_asked(text, row, reach, server):
    spec = replace(row, checkpoint=text)
    for act in (present, obtain):
        found = refusal(act, spec, reach)
        assert "is nothing the hub can have" in found
        assert "expected hf://OWNER/NAME@REVISION/FILE; check --weights" in found
    assert server.log == []


# --- the hub ---------------------------------------------------------------------------------------------------------


def hub_row(row: EncoderSpec, server: Server, *, revision: str = COMMIT, **known) -> EncoderSpec:
    """A row whose weights are w.bin of o/n, which the server has."""
    server.repositories["o/n"] = Repository({"w.bin": DATA}, **known)
    return replace(row, checkpoint=f"hf://o/n@{revision}/w.bin")


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_file_of_the_hub_is_fetched_once(revision, large, row, reach, server, tmp_path):
    spec = hub_row(row, server, revision=revision)
    server.large = large
    assert not present(spec, reach)
    assert server.log == []
    found = obtain(spec, reach)
    assert Path(found.path).read_bytes() == DATA
    assert Path(found.path).is_relative_to(tmp_path / "weights" / "hub")
    assert found.as_dict() == {"address": spec.checkpoint, "revision": COMMIT, "file_sha256": SHA256}
    assert [line.partition(" ")[0] for line in server.asked] == ["HEAD", "GET"]
    asked = len(server.log)
    assert present(spec, reach)
    assert obtain(spec, reach) == found
    assert obtain(spec, Reach(cache=reach.cache, offline=True)) == found
    assert len(server.log) == asked
    assert files_below(tmp_path) == [SHA256, "w.bin"]


def test_the_usual_cache_of_the_hub_is_taken_where_none_is_given(row, server, world):
    found = obtain(hub_row(row, server), Reach())
    assert Path(found.path).is_relative_to(world / "hub" / "models--o--n" / "snapshots" / COMMIT)


def test_a_pinned_revision_is_that_and_no_other(row, reach, server):
    new = hub_row(row, server, older={"w.bin": b"old"})
    old = replace(new, checkpoint=f"hf://o/n@{OLDER}/w.bin")
    assert not present(old, reach)
    obtain(new, reach)
    assert not present(old, reach)
    assert Path(obtain(old, reach).path).read_bytes() == b"old"
    assert obtain(old, reach).revision == OLDER
    assert Path(obtain(new, reach).path).read_bytes() == DATA


def test_the_commit_is_found_in_any_cache_and_folder(row, server, tmp_path):
    server.repositories["o/n"] = Repository({"snapshots/deep/w.bin": DATA})
    spec = replace(row, checkpoint="hf://o/n@main/snapshots/deep/w.bin")
    reach = Reach(cache=str(tmp_path / "snapshots" / "x"))
    assert obtain(spec, reach).revision == COMMIT
    assert obtain(spec, reach).revision == COMMIT  # from the cache


def test_the_first_file_that_is_there_is_taken(row, reach, server):
    server.repositories["o/n"] = Repository({"b.bin": DATA, "c.bin": b"c"})
    spec = replace(row, checkpoint="hf://o/n@main/a.safetensors|b.bin|c.bin")
    found = obtain(spec, reach)
    assert (Path(found.path).name, Path(found.path).read_bytes()) == ("b.bin", DATA)
    asked = len(server.log)
    assert "GET /o/n/resolve/main/c.bin" not in server.log
    assert obtain(spec, reach) == found
    assert len(server.log) == asked


def test_a_repository_without_the_files_is_named(row, reach, server):
    server.repositories["o/n"] = Repository({"other.bin": DATA})
    found = refusal(obtain, replace(row, checkpoint="hf://o/n@main/a.safetensors|b.bin"), reach)
    assert found == "tiny: 'o/n@main' on the hub has no file a.safetensors or b.bin; check the spec's checkpoint"


def test_a_wrong_revision_is_named(row, reach, server):
    found = refusal(obtain, hub_row(row, server, revision="v2"), reach)
    assert "tiny: the hub's repository 'o/n' has no revision 'v2'; expected a commit, branch or tag" in found
    assert "check the spec's checkpoint" in found


@pytest.mark.parametrize("token", [None, "mine"])
def test_a_wrong_repository_is_named(token, row, reach, server, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    found = refusal(obtain, replace(row, checkpoint="hf://o/nowhere@main/w.bin"), reach)
    assert "the hub has no repository 'o/nowhere', or hides it" in found
    assert "check the spec's checkpoint, and HF_TOKEN if it is private" in found


def test_gated_weights_ask_for_license_and_token(row, reach, server):
    found = refusal(obtain, hub_row(row, server, members=("mine",)), reach)
    assert found == (
        "the weights of tiny are gated: accept the license at https://huggingface.co/o/n, "
        "then set HF_TOKEN (found no token)"
    )


def test_a_token_without_access_is_told_so(row, reach, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    found = refusal(obtain, hub_row(row, server, members=("mine",)), reach)
    assert "gated and the token found has no access: accept the license at https://huggingface.co/o/n" in found
    assert "another" not in found  # a token is nothing to show


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_token_found_is_sent_to_the_hub_alone(place, large, row, reach, server, monkeypatch, world):
    server.large = large
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", "mine")
    else:
        world.mkdir()
        (world / "token").write_text("mine\n")
    found = obtain(hub_row(row, server, members=("mine",)), reach)
    assert Path(found.path).read_bytes() == DATA
    assert server.tokens.pop(f"GET /large/{SHA256}", None) is None
    assert set(server.tokens.values()) == {"Bearer mine"}
    assert f"GET /{'large' if large else 'o/n/resolve'}" in "".join(server.log)


def test_a_token_that_the_hub_does_not_know_is_told_so(row, reach, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "expired")
    found = refusal(obtain, hub_row(row, server), reach)
    assert "the weights of tiny cannot be had: the hub answers 401 for 'o/n@" in found
    assert "check HF_TOKEN" in found


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_hub_that_answers_with_an_error_is_quoted(status, row, reach, server, tmp_path):
    spec = hub_row(row, server)
    server.status = status
    found = refusal(obtain, spec, reach)
    assert f"the weights of tiny cannot be had: the hub answers {status} for 'o/n@{COMMIT}'; try again" in found
    assert files_below(tmp_path) == []
    server.status = None
    assert obtain(spec, reach).sha256() == SHA256


def test_a_hub_that_nobody_hears_is_told_so(row, reach, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    found = refusal(obtain, replace(row, checkpoint="hf://o/n@main/w.bin"), reach)
    assert re.search(r"'o/n@main' did not come from the hub \(.*refused.*\); try again, or supply them with --w", found)


def test_a_page_in_place_of_the_hub_is_told_so(row, reach, server, monkeypatch):
    """A proxy that asks people to log in answers everything with a page of its own."""
    server.put("o/n/resolve/main/w.bin", b"<html>log in</html>", **{"Content-Type": "text/html"})
    template = server.url + "/web/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    found = refusal(obtain, replace(row, checkpoint="hf://o/n@main/w.bin"), reach)
    assert "'o/n@main' did not come from the hub (" in found
    assert "does not seem to be served by a Hugging Face Hub endpoint" in found
    assert not present(replace(row, checkpoint="hf://o/n@main/w.bin"), reach)


@pytest.mark.parametrize("large", [False, True])
def test_a_download_of_the_hub_that_breaks_goes_on(large, row, reach, server):
    spec = hub_row(row, server)
    server.large, server.cut = large, 1
    assert obtain(spec, reach).sha256() == SHA256
    assert server.cut == 0


@pytest.mark.parametrize("status", [200, 404])
def test_a_store_of_chunks_that_gives_nothing_is_told_so(status, row, reach, server, tmp_path):
    spec = hub_row(row, server)
    server.chunked = True
    server.token_status = status
    found = refusal(obtain, spec, reach)
    assert "GET /api/token" in server.log
    why = "did not come from the hub (Xet" if status == 200 else "the hub answers 404 for"
    assert found.startswith("the weights of tiny cannot be had: ")
    assert why in found
    assert not present(spec, reach)
    assert "w.bin" not in files_below(tmp_path)


def test_a_download_of_the_hub_that_breaks_always_leaves_nothing(row, reach, server, tmp_path):
    spec = hub_row(row, server)
    server.cut = 1000
    found = refusal(obtain, spec, reach)
    assert f"the weights of tiny cannot be had: 'o/n@{COMMIT}' did not come from the hub (" in found
    assert files_below(tmp_path) == []
    assert not present(spec, reach)
    server.cut = 0
    assert obtain(spec, reach).sha256() == SHA256


def test_a_cache_that_cannot_be_written_is_told_so(row, server, tmp_path):
    (tmp_path / "file").write_text("no directory")
    spec, reach = hub_row(row, server), Reach(cache=str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}" in refusal(obtain, spec, reach)
    web = replace(row, checkpoint=server.put("w.pt", DATA))
    assert f"{tmp_path / 'file'}" in refusal(obtain, web, reach)


# --- without a network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flag", "environment"])
@pytest.mark.parametrize("kind", ["hub", "web", "member", "store"])
def test_offline_nothing_is_asked(kind, how, row, tmp_path, server, s3, monkeypatch):
    s3.put("w.pt", DATA)
    addresses = {
        "hub": hub_row(row, server).checkpoint,
        "web": server.put("w.pt", DATA),
        "member": server.put("w.zip", archive({"w.pt": DATA})) + "!w.pt",
        "store": s3.address("w.pt"),
    }
    spec = replace(row, checkpoint=addresses[kind])
    online = Reach(cache=str(tmp_path / "weights"))
    offline = replace(online, offline=how == "flag")
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = refusal(obtain, spec, offline)
    assert found.startswith(f"the weights of tiny cannot be had: '{spec.checkpoint}' is not in the cache {tmp_path}")
    for part in ("offline", "--weights FILE", "cbmir encoders fetch", "--random-weights SEED"):
        assert part in found
    assert server.log == []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    fetched = obtain(spec, online)
    asked = list(server.log)
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert obtain(spec, offline) == fetched
    assert server.log == asked


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("ON", True), ("Yes", True), ("0", False), ("", False)]
)
def test_the_hubs_own_variable_counts(value, offline, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert Reach().is_offline is offline
    assert Reach(offline=True).is_offline


def test_a_host_that_no_name_server_knows_is_named_at_once(row, reach, monkeypatch):
    def no_name_server(*_):
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", no_name_server)
    found = refusal(obtain, replace(row, checkpoint="https://weights.example/w.pt"), reach)
    assert "weights.example cannot be reached" in found
    assert "--weights FILE" in found


# --- the web ---------------------------------------------------------------------------------------------------------


def archive(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def test_a_file_of_the_web_is_fetched_once(row, reach, server, tmp_path):
    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    assert not present(spec, reach)
    found = obtain(spec, reach)
    assert found.as_dict() == {"address": spec.checkpoint, "revision": None, "file_sha256": SHA256}
    assert Path(found.path).parent == tmp_path / "weights" / "files"
    assert Path(found.path).name.endswith("-w.pt")
    assert present(spec, reach)
    assert obtain(spec, reach) == found
    assert server.log == ["GET /web/w.pt"]
    assert len(files_below(tmp_path)) == 1


def test_the_usual_cache_of_cbmir_is_taken_where_none_is_given(row, server, world, monkeypatch):
    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    assert Path(obtain(spec, Reach()).path).parent == world / "cbmir" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(world / "home"))
    assert Path(obtain(spec, Reach()).path).parent == world / "home" / ".cache" / "cbmir" / "weights"


def test_a_cache_means_the_same_from_everywhere(row, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec, reach = replace(row, checkpoint=server.put("w.pt", DATA)), Reach(cache="here")
    found = obtain(spec, pickle.loads(pickle.dumps(reach)))
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(reach)) == reach
    assert obtain(spec, reach) == found
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Reach(cache="~/w").cache == str(tmp_path / "home" / "w")


def test_equal_names_of_different_places_do_not_meet(row, reach, server):
    places = {"a/w.pt": b"a", "b/w.pt": b"b"}
    for path, data in places.items():
        obtain(replace(row, checkpoint=server.put(path, data)), reach)
    for path, data in places.items():
        found = obtain(replace(row, checkpoint=f"{server.url}/web/{path}"), reach)
        assert Path(found.path).read_bytes() == data


@pytest.mark.parametrize("query", ["?id=1&export=download", "?place=a/b/c", "?" + "x" * 300])
def test_a_query_is_no_part_of_the_files_name(query, row, reach, server):
    spec = replace(row, checkpoint=server.put("w.pt", DATA) + query)
    assert re.fullmatch(r"[0-9a-f]{12}-w\.pt", Path(obtain(spec, reach).path).name)


def test_others_may_read_what_one_has_fetched(row, reach, server):
    """As any file that this person makes: a cache may be a group's."""
    before = os.umask(0o027)
    try:
        found = obtain(replace(row, checkpoint=server.put("w.pt", DATA)), reach)
    finally:
        os.umask(before)
    assert Path(found.path).stat().st_mode & 0o777 == 0o640


def test_many_at_once_fetch_one_whole_file(row, reach, server, tmp_path):
    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(obtain(spec, reach).sha256())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SHA256] * 8
    assert len(files_below(tmp_path)) == 1


def test_a_web_download_that_breaks_leaves_nothing_and_a_second_try_works(row, reach, server, tmp_path):
    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    server.cut = 1
    found = refusal(obtain, spec, reach)
    assert f"the weights of tiny cannot be had from {spec.checkpoint}: 150,000 of 300,000 bytes came" in found
    assert "--weights FILE" in found
    assert files_below(tmp_path) == []
    assert not present(spec, reach)
    assert obtain(spec, reach).sha256() == SHA256


def test_an_interrupted_download_leaves_nothing(row, reach, server, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.progress.Progress.update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            obtain(spec, reach)
    assert files_below(tmp_path) == []


def test_a_page_in_place_of_the_file_is_refused(row, reach, server, tmp_path):
    """Google Drive answers so when a file was asked for too often."""
    kind = {"Content-Type": "text/html; charset=utf-8"}
    for member in ("", "!w.pt"):
        spec = replace(row, checkpoint=server.put("w", b"<html>Quota exceeded</html>", **kind) + member)
        assert "the server answered with a web page, not with a file; supply them" in refusal(obtain, spec, reach)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("{url}/web/none.pt", "HTTP 404 NOT FOUND"),
        ("{url}/web/a b.pt", "URL can't contain control characters"),
        ("http://", "no host given"),
        ("{url}x/w.pt", "nonnumeric port"),
    ],
)
def test_an_address_that_has_no_file_is_refused(address, why, row, reach, server):
    text = address.format(url=server.url)
    found = refusal(obtain, replace(row, checkpoint=text), reach)
    assert found.startswith(f"the weights of tiny cannot be had from {text}: ")
    assert why in found


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_web_server_that_answers_with_an_error_is_quoted(status, row, reach, server, tmp_path):
    spec = replace(row, checkpoint=server.put("w.pt", DATA))
    server.status = status
    assert f"{spec.checkpoint}: HTTP {status} {http.client.responses[status].upper()}; sup" in refusal(
        obtain, spec, reach
    )
    assert files_below(tmp_path) == []


def test_a_server_that_closes_without_a_word_is_told_so(row, reach):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            for _ in range(2):
                connection, _ = listening.accept()
                connection.recv(1000)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        spec = replace(row, checkpoint=f"http://127.0.0.1:{listening.getsockname()[1]}/w.pt")
        found = [refusal(obtain, spec, reach) for _ in range(2)]
        thread.join()
    assert all("closed connection without response" in text for text in found)


def test_a_chunked_answer_that_breaks_is_told_so(row, reach, tmp_path):
    """No length is announced: the end has a mark of its own, which does not come."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def half():
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3E8\r\n" + bytes(400))
            connection.close()

        thread = threading.Thread(target=half)
        thread.start()
        spec = replace(row, checkpoint=f"http://127.0.0.1:{listening.getsockname()[1]}/w.pt")
        found = refusal(obtain, spec, reach)
        thread.join()
    assert "IncompleteRead" in found
    assert files_below(tmp_path) == []


# --- members of archives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["w.pt", "in/w.pt", "out/in/w.pt"])
def test_a_member_of_an_archive_is_fetched_once(member, row, reach, server, tmp_path):
    data = archive({"readme.txt": b"x", "out/in/w.pt": DATA, "out/in/xw.pt": b"another"})
    spec = replace(row, checkpoint=server.put("w.zip", data) + f"!{member}")
    assert not present(spec, reach)
    found = obtain(spec, reach)
    assert found.as_dict() == {"address": spec.checkpoint, "revision": None, "file_sha256": SHA256}
    assert Path(found.path).name.endswith("-w.pt")
    assert obtain(spec, reach) == found
    assert server.log == ["GET /web/w.zip"]
    assert len(files_below(tmp_path)) == 1  # the archive is not kept


def test_a_members_name_in_full_goes_before_an_ending(row, reach, server):
    address = server.put("w.zip", archive({"old/w.pt": b"old", "w.pt": DATA}))
    assert obtain(replace(row, checkpoint=f"{address}!w.pt"), reach).sha256() == SHA256
    assert Path(obtain(replace(row, checkpoint=f"{address}!old/w.pt"), reach).path).read_bytes() == b"old"


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"a.pt": b"a", "b/c.pt": b"c"}, "the archive has 0 files w.pt, expected 1; found a.pt, b/c.pt"),
        ({"a/w.pt": b"a", "b/w.pt": b"b"}, "the archive has 2 files w.pt, expected 1; found a/w.pt, b/w.pt"),
    ],
)
def test_a_member_that_is_not_there_once_is_refused(members, found, row, reach, server, tmp_path):
    spec = replace(row, checkpoint=server.put("w.zip", archive(members)) + "!w.pt")
    assert f"cannot be had from {spec.checkpoint}: {found}; supply them with --weights FILE" in refusal(
        obtain, spec, reach
    )
    assert files_below(tmp_path) == []


def damaged(data: bytes) -> bytes:
    return data[:5000] + bytes(5) + data[5005:]


def locked(data: bytes) -> bytes:
    """The flag that says a member is encrypted, in both of its places."""
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(mark) + at
        data = data[:place] + bytes([data[place] | 1]) + data[place + 1 :]
    return data


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda data: DATA, "File is not a zip file"),
        (lambda data: data[:-100], "File is not a zip file"),
        (damaged, "Bad CRC-32|Error -3 while decompressing|Corrupt input data|Invalid data stream"),
        (locked, "is encrypted, password required"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_cannot_be_read_is_refused(method, broken, why, row, reach, server, tmp_path):
    text = b"".join(b"%d " % n for n in range(20_000))
    data = broken(archive({"w.pt": text}, method=method))
    spec = replace(row, checkpoint=server.put("w.zip", data) + "!w.pt")
    found = refusal(obtain, spec, reach)
    assert found.startswith(f"the weights of tiny cannot be had from {spec.checkpoint}: ")
    assert re.search(why, found)
    assert files_below(tmp_path) == []


# --- object stores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.pt", "deep/w.pt", "w.pt.gz"])
def test_a_file_of_an_object_store_is_fetched_once(name, row, reach, s3, tmp_path):
    s3.put(name, DATA)
    spec = replace(row, weights=s3.address(name))
    assert not present(spec, reach)
    found = obtain(spec, reach)
    assert found.as_dict() == {"address": spec.weights, "revision": None, "file_sha256": SHA256}
    assert Path(found.path).name.endswith(f"-{Path(name).name}")
    s3.fs.delete_file(f"{s3.name}/{name}")
    assert present(spec, reach)
    assert obtain(spec, reach) == found
    assert len(files_below(tmp_path)) == 1


@pytest.mark.parametrize("name", ["none.pt", "folder", ""])
def test_what_is_not_in_the_object_store_is_refused(name, row, reach, s3, tmp_path):
    s3.put("folder/w.pt", DATA)
    spec = replace(row, weights=s3.address(name))
    found = refusal(obtain, spec, reach)
    assert found.startswith(f"the weights of tiny cannot be had from {spec.weights}: ")
    assert found.endswith("supply them with --weights FILE (safetensors or a torch state dict)")
    assert files_below(tmp_path) == []


# --- the disk --------------------------------------------------------------------------------------------------------


def test_a_file_here_is_taken_where_it_lies(row, tmp_path, monkeypatch, world):
    file = tmp_path / "w x.pt"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    offline = Reach(offline=True)
    texts = [str(file), file.as_uri(), "~/w x.pt", "w x.pt"]
    assert not any(present(replace(row, weights=text), offline) for text in texts)
    file.write_bytes(DATA)
    for text in texts:
        spec = replace(row, weights=text)
        assert present(spec, offline)
        found = obtain(spec, offline)
        assert (found.path, found.address, found.revision) == (str(file), text, None)
    assert not world.exists()


def test_a_file_that_is_not_here_is_named(row, tmp_path):
    for text in (str(tmp_path / "none.pt"), (tmp_path / "none.pt").as_uri()):
        found = refusal(obtain, replace(row, weights=text), Reach())
        assert found == (
            f"no weights file {tmp_path}/none.pt for tiny; expected safetensors or a torch file; check --weights"
        )
    assert f"no file: it is a directory {tmp_path} for tiny" in refusal(
        obtain, replace(row, weights=str(tmp_path)), Reach()
    )
    assert not present(replace(row, weights=str(tmp_path)), Reach())


# --- what needs none, and the checksum -------------------------------------------------------------------------------


def test_an_encoder_that_needs_no_weights_has_them(row, reach):
    for spec in (resolve("pixels32"), replace(row, random_seed=0), resolve("timm:test_vit~random0")):
        assert present(spec, reach)
        assert fetch(spec, reach) is None
    assert not present(row, reach)
    found = refusal(obtain, row, reach)
    assert found.startswith("tiny has no published weights; supply them with --weights FILE")
    assert "--random-weights SEED" in found


@pytest.mark.parametrize("kind", ["hub", "web", "disk"])
def test_weights_of_another_checksum_are_refused_until_they_are_fetched_again(kind, row, reach, server, tmp_path):
    (tmp_path / "w.pt").write_bytes(DATA)
    places = {
        "hub": lambda: hub_row(row, server).checkpoint,
        "web": lambda: server.put("w.pt", DATA),
        "disk": lambda: str(tmp_path / "w.pt"),
    }
    spec = replace(row, checkpoint=places[kind](), sha256=SHA256)
    found = obtain(spec, reach)
    assert found.sha256() == SHA256 == file_sha256(found.path)
    assert obtain(replace(spec, sha256=SHA256.upper()), reach) == found
    other = hashlib.sha256(b"another").hexdigest()
    assert other in refusal(obtain, replace(spec, sha256=other), reach)
    with open(found.path, "r+b") as file:
        file.write(b"damage")
    damaged = file_sha256(found.path)
    for again in (spec, replace(spec, name="tiny")):
        text = refusal(obtain, again, reach)
        assert f"have SHA-256 {damaged}; expected {SHA256}; delete that file and fetch it again" in text
    if kind != "disk":  # do as it says
        Path(re.search(r"in (\S+) have", text)[1]).unlink()
        assert not present(spec, reach)
        assert obtain(spec, reach).sha256() == SHA256


def test_the_checksum_is_of_the_published_weights_alone(row, reach, server, tmp_path):
    (tmp_path / "own.pt").write_bytes(b"own")
    spec = replace(row, checkpoint=server.put("w.pt", DATA), sha256=SHA256, weights=str(tmp_path / "own.pt"))
    assert obtain(spec, reach).path == str(tmp_path / "own.pt")
    assert server.log == []


# --- from the address to vectors -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    with modules._seeded(5):
        return timm.create_model("test_vit", num_classes=0).state_dict()


@pytest.mark.parametrize("kind", ["hub", "web", "member", "store"])
def test_published_weights_are_loaded_end_to_end(kind, row, state, reach, server, s3):
    data = safetensors.torch.save(state)
    server.repositories["o/n"] = Repository({"model.safetensors": data})
    s3.put("model.safetensors", data)
    address = {
        "hub": f"hf://o/n@{COMMIT}/model.safetensors",
        "web": server.put("model.safetensors", data),
        "member": server.put("w.zip", archive({"in/model.safetensors": data})) + "!model.safetensors",
        "store": s3.address("model.safetensors"),
    }[kind]
    spec = replace(row, checkpoint=address, sha256=hashlib.sha256(data).hexdigest())
    encoder = build(spec, reach=reach)
    assert encoder.weights.address == address
    assert encoder.weights.sha256() == spec.sha256
    model = timm.create_model("test_vit", num_classes=0).eval()
    model.load_state_dict(state)
    assert state_sha256(encoder.module.trunk) == state_sha256(model)
    size = spec.geometry.size
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    with torch.inference_mode():
        normal = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(spec.mean)[:, None, None]) / (
            torch.tensor(spec.std)[:, None, None]
        )
        expected = model(normal).numpy()
    np.testing.assert_allclose(encoder.encode(pixels), expected, rtol=1e-4, atol=1e-5)
    again = build(spec, reach=replace(reach, offline=True))
    assert again.weights_sha256 == encoder.weights_sha256


def test_a_page_that_came_as_weights_is_refused_by_name(row, reach, server):
    """A server that says it is a file when it is not."""
    address = server.put("w.pt", b"<!DOCTYPE html><html>Quota exceeded</html>")
    found = refusal(lambda: build(replace(row, checkpoint=address), reach=reach))
    assert found.startswith(f"cannot load tiny from {address}: it is no file of weights")


# --- files of weights ------------------------------------------------------------------------------------------------

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor([3, 4]), "b.bias": torch.ones(2)}


def old_torch(data, path) -> None:
    torch.save(data, path, _use_new_zipfile_serialization=False)


KINDS = {"w.safetensors": safetensors.torch.save_file, "w.bin": safetensors.torch.save_file, "w.pt": torch.save}
TORCH = pytest.mark.parametrize("save", [torch.save, old_torch])


def assert_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = TENSORS) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("name, save", [*KINDS.items(), ("old.pt", old_torch), ("zip.safetensors.pt", torch.save)])
def test_tensors_are_read_from_each_kind_of_file(name, save, tmp_path):
    save(TENSORS, tmp_path / name)
    assert_tensors(read_state(str(tmp_path / name)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_later_pickles_are_refused_by_their_name(protocol, zipped, tmp_path):
    """torch.save writes protocol 2, and torch reads no later one than 3 without running code."""
    file = tmp_path / "w.pt"
    torch.save(TENSORS, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    if protocol < 4:
        assert_tensors(read_state(str(file)))
    else:
        assert "it was saved with pickle_protocol 4 or later" in refused(file)


@TORCH
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module", "teacher", "net"])
def test_wrappers_are_opened(wrapper, save, tmp_path):
    path = str(tmp_path / "w.pt")
    save({"epoch": 3, "note": "text", wrapper: TENSORS}, path)
    assert_tensors(read_state(path))
    save({wrapper: {"state_dict": TENSORS, "epoch": 3}, "optimizer": {"step": torch.tensor(1)}}, path)
    assert_tensors(read_state(path))
    save({wrapper: {f"module.{name}": tensor for name, tensor in TENSORS.items()}}, path)
    assert_tensors(read_state(path))


def test_a_tensor_with_a_wrappers_name_is_a_tensor(tmp_path):
    state = TENSORS | {"model": torch.zeros(2)}
    torch.save(state, tmp_path / "w.pt")
    assert_tensors(read_state(str(tmp_path / "w.pt")), state)


def test_a_prefix_that_not_all_have_stays(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    for data, expected in ((state, TENSORS), (state | {"c": torch.ones(1)}, state | {"c": torch.ones(1)})):
        for name, save in KINDS.items():
            save(data, tmp_path / name)
            assert_tensors(read_state(str(tmp_path / name)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", KINDS)
def test_floats_become_float32_and_integers_stay(name, dtype, tmp_path):
    state = {"w": torch.tensor([0.5, -2.0, 3.0]).to(dtype), "n": torch.tensor([2**40]), "b": torch.tensor([True])}
    KINDS[name](state, tmp_path / name)
    expected = state | {"w": torch.tensor([0.5, -2.0, 3.0])}
    assert_tensors(read_state(str(tmp_path / name)), expected)


def refused(path: Path) -> str:
    """Why `read_state` refuses a file: one line of a plain ValueError."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller reads it)
        read_state(str(path))
    assert type(caught.value) is ValueError
    text = str(caught.value)
    assert "\n" not in text
    assert "expected" in text
    assert len(text) < 400
    return text


@TORCH
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (TENSORS | {"lr": 0.1}, "'lr' is no tensor but float"),
        ({"state_dict": TENSORS | {"names": ["a"]}}, "'names' is no tensor but list"),
        ({"state_dict": {"lr": 0.1}}, "it holds no tensors by name"),
        ({}, "it holds no tensors by name"),
        ([torch.ones(2)], "it holds no tensors by name"),
        (torch.ones(2), "it holds no tensors by name"),
        (3, "it holds no tensors by name"),
    ],
)
def test_what_is_no_dictionary_of_tensors_is_refused(data, why, save, tmp_path):
    save(data, tmp_path / "w.pt")
    assert refused(tmp_path / "w.pt") == f"{why}; expected safetensors or a torch state dict"


def test_a_file_that_holds_itself_comes_to_an_end(tmp_path):
    knot = {"w": torch.ones(2)}
    knot["model"] = knot
    torch.save(knot, tmp_path / "w.pt")
    assert "'model' is no tensor but dict" in refused(tmp_path / "w.pt")
    knot = {}
    knot |= dict.fromkeys(("state_dict", "model", "module", "teacher", "net"), knot)
    torch.save(knot, tmp_path / "w.pt")
    assert "it holds no tensors by name" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"x", "it is no "),
        (b"no weights at all", "it is no "),
        (b"<!DOCTYPE html><html></html>", "it is no "),
        (b'{"an": "object"}', "it is no "),
        (b"PK\x03\x04" + bytes(40), "it is no "),
        (b"12345678{", "it is no whole safetensors file"),
        (struct.pack("<Q", 2**62) + b"{}", "it is no whole safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "it holds no tensors by name"),
        (archive({"w.txt": b"an archive of another kind"}), "it is no "),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(data, why, name, tmp_path):
    (tmp_path / name).write_bytes(data)
    found = refused(tmp_path / name)
    assert found.startswith(why)
    assert "code" not in found  # there is none


def test_floats_of_four_bits_are_refused(tmp_path):
    header = b'{"w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    assert "'w' is torch.float4" in refused(tmp_path / "w.safetensors")


SAVES = pytest.mark.parametrize(
    "name, save", [("w.safetensors", safetensors.torch.save_file), ("w.pt", torch.save), ("old.pt", old_torch)]
)


@SAVES
def test_a_file_cut_short_anywhere_is_refused(name, save, tmp_path):
    save(TENSORS, tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for length in sorted({0, 1, 8, 9, 10, *range(11, len(data), max(1, len(data) // 150)), len(data) - 1}):
        (tmp_path / name).write_bytes(data[:length])
        refused(tmp_path / name)


@SAVES
def test_a_damaged_file_is_read_or_refused_in_a_line(name, save, tmp_path):
    save(TENSORS, tmp_path / name)
    data, rng, outcomes = (tmp_path / name).read_bytes(), random.Random(0), {"read": 0, "refused": 0}
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        (tmp_path / name).write_bytes(broken)
        try:
            read_state(str(tmp_path / name))
            outcomes["read"] += 1
        except ValueError:
            refused(tmp_path / name)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes


class Bomb:
    """A file appears where this is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


class System(Bomb):
    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("bomb", [Bomb, System])
@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(kind, protocol, name, bomb, tmp_path):
    mark, file = tmp_path / "mark", tmp_path / name
    data = {"state_dict": TENSORS, "note": bomb(mark)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(data, protocol=protocol))
    else:
        torch.save(data, file, pickle_protocol=protocol, _use_new_zipfile_serialization=kind == "zip")
    found = refused(file)
    if protocol == 2 and name != "w.safetensors" and kind != "pickle":
        code = "posix.system" if bomb is System else "pathlib.Path.touch|getattr"
        assert re.search(rf"it is a pickle that would run code \(({code})\), and is not loaded", found)
    assert not mark.exists()
    if kind == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(io.BytesIO(file.read_bytes()), weights_only=False)
    assert mark.exists()  # the bomb is real


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    assert "would run code (torch.nn.modules.linear.Linear)" in refused(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_torchscript_archive_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    assert "it is a TorchScript archive, which holds code" in refused(tmp_path / "w.pt")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(server, state, tmp_path) -> dict[str, str]:
    """Encoder files of people's own: `good` on the hub, `web` behind http, `gone` nowhere."""
    data = safetensors.torch.save(state)
    server.repositories["o/n"] = Repository({"model.safetensors": data})
    addresses = {
        "good": f"hf://o/n@{COMMIT}/model.safetensors",
        "web": server.put("w.safetensors", data),
        "gone": "hf://o/gone@main/model.safetensors",
    }
    for name, address in addresses.items():
        (tmp_path / f"{name}.toml").write_text(f'model = "timm:test_vit"\ncheckpoint = "{address}"\n')
    return {name: str(tmp_path / f"{name}.toml") for name in addresses} | {"sha256": hashlib.sha256(data).hexdigest()}


def run(*arguments: str) -> int:
    """main, with argparse's own exits as codes."""
    try:
        return main(["encoders", "fetch", *arguments])
    except SystemExit as end:
        return end.code


def test_fetch_prints_path_revision_and_checksum(rows, reach, capsys, server):
    cache = ["--weights-cache", reach.cache]
    assert run(rows["good"], rows["web"], "pixels32", "timm:test_vit~random0", *cache) == 0
    said, noise = capsys.readouterr()
    first, second, *others = said.splitlines()
    path = f"{reach.cache}/hub/models--o--n/snapshots/{COMMIT}/model.safetensors"
    assert first == f"good: {path}, revision {COMMIT}, SHA-256 {rows['sha256']}"
    assert re.fullmatch(rf"web: {reach.cache}/files/\w+-w\.safetensors, SHA-256 {rows['sha256']}", second)
    assert others == ["pixels32: needs no weights", "timm:test_vit~random0: needs no weights"]
    assert noise == ""
    asked = len(server.log)
    assert run(rows["good"], rows["web"], "--offline", *cache) == 0
    assert capsys.readouterr().out.splitlines() == [first, second]
    assert len(server.log) == asked


def test_what_cannot_be_fetched_is_one_line_and_exit_code_2(rows, reach, capsys, server):
    cache = ["--weights-cache", reach.cache]
    cases = [
        ([rows["good"], "--offline", *cache], "the network is not to be used (offline)"),
        ([rows["good"], rows["gone"], *cache], "the hub has no repository 'o/gone'"),
        (["pixel32", *cache], "unknown encoder 'pixel32'; nearest: 'pixels32'"),
        ([], "the following arguments are required: NAME"),
        ([rows["good"], "--weights-cache"], "expected one argument"),
        ([rows["good"], "--nonsense"], "unrecognized arguments: --nonsense"),
    ]
    for arguments, message in cases:
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("cbmir")
        assert error.count("\n") == 1


def test_nothing_is_fetched_where_a_name_is_wrong(rows, reach, capsys, server):
    assert run(rows["good"], "pixel32", "--weights-cache", reach.cache) == 2
    assert server.log == []
    assert not present(replace(resolve(rows["good"])), reach)


def test_a_broken_download_ends_in_one_line(rows, reach, capsys, server):
    for name in ("good", "web"):
        server.cut = 1000
        assert run(rows[name], "--weights-cache", reach.cache) == 2
        assert (
            capsys.readouterr().err.splitlines()[-1].startswith(f"cbmir encoders fetch: the weights of {name} cannot")
        )


def test_the_command_asks_the_endpoint_and_token_of_the_environment(rows, reach, server, tmp_path):
    server.repositories["o/n"].members = ("mine",)
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_TOKEN": "mine", "HF_HOME": str(tmp_path / "caches")}
    done = cbmir("encoders", "fetch", rows["good"], env=environment)
    assert done.returncode == 0, done.stderr
    path = f"{tmp_path}/caches/hub/models--o--n/snapshots/{COMMIT}/model.safetensors"
    assert done.stdout == f"good: {path}, revision {COMMIT}, SHA-256 {rows['sha256']}\n"
    assert set(server.tokens.values()) == {"Bearer mine"}
    gated = cbmir("encoders", "fetch", rows["good"], env=environment | {"HF_TOKEN": "", "HF_HOME": str(tmp_path / "b")})
    assert gated.returncode == 2
    assert "accept the license at https://huggingface.co/o/n, then set HF_TOKEN" in gated.stderr
