"""The embedding stage on a real local Ray: conservation, independence of order, resumption, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cbmir.embed import embed
from cbmir.embedding.account import account, remove_doubles
from cbmir.embedding.options import EmbedOptions
from cbmir.errors import TooManyFailures, UserError
from cbmir.images.geometry import apply
from cbmir.images.read import read_image
from cbmir.schemas import FAILURES, ContractError, embeddings
from cbmir.select import embedded_by
from cbmir.store import Study
from tests.processes import outcome

TINY = "timm:test_resnet~random0"


def vectors(study: Study, encoder: str) -> dict[int, np.ndarray]:
    directory = Path(study.root, "embeddings", f"encoder={encoder}")
    table = pq.ParquetDataset(sorted(str(p) for p in directory.glob("*.parquet")), partitioning=None).read()
    return dict(zip(table["image_key"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32), strict=True))


@pytest.fixture
def said():
    return []


def test_every_row_is_one_embedding_or_one_failure_and_the_contracts_hold(ray_session, phantom_study, said):
    accounts = embed(phantom_study, ["pixels32", TINY], EmbedOptions(), say=said.append)
    assert [(a.embedded, a.failed, a.missing) for a in accounts] == [(199, 1, 0), (199, 1, 0)]
    assert said[2:] == [
        "pixels32: 199 embedded, 1 failed: see failures",
        f"{TINY}: 199 embedded, 1 failed: see failures",
    ]
    root = Path(phantom_study.root)
    assert outcome(root, "pixels32") == (200, 199, 1, 200)
    for path in root.glob("embeddings/encoder=pixels32/*.parquet"):
        assert pq.ParquetFile(path).schema_arrow.equals(embeddings(1024))
    failure = pq.ParquetFile(next(root.glob("failures/encoder=pixels32/*.parquet")))
    assert failure.schema_arrow.equals(FAILURES)
    assert not list(root.glob("**/*.tmp-*"))
    assert not (root / ".staging").exists() or not list((root / ".staging").iterdir())
    run = phantom_study.require("embeddings", "encoder=pixels32")
    assert (run["rows"], run["failed"], run["dim"], run["random_weights"]) == (199, 1, 1024, None)
    assert phantom_study.require("embeddings", "encoder=timm%3Atest_resnet~random0")["random_weights"] == 0


def test_vectors_are_those_of_a_plain_loop(ray_session, phantom_study):
    from cbmir.encoders.build import build
    from cbmir.encoders.table import resolve

    embed(phantom_study, ["pixels32", TINY], EmbedOptions(), say=str)
    rows = pq.read_table(phantom_study.files("manifest")[0]).to_pylist()
    for name in ("pixels32", TINY):
        encoder = build(resolve(name))
        found = vectors(phantom_study, name.replace(":", "%3A"))
        for row in rows[::17]:
            if row["image_key"] in found:
                pixels = apply(encoder.spec.geometry, read_image(row["uri"]))
                np.testing.assert_allclose(found[row["image_key"]], encoder.encode(pixels[None])[0], atol=2e-5)


def test_what_is_there_is_skipped_and_what_is_missing_is_made(ray_session, phantom_study):
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    directory = Path(phantom_study.root, "embeddings", "encoder=pixels32")
    before = {p: p.stat().st_mtime_ns for p in directory.glob("*.parquet")}
    embed(phantom_study, ["pixels32", TINY], EmbedOptions(), say=str)
    assert {p: p.stat().st_mtime_ns for p in directory.glob("*.parquet")} == before
    victim = sorted(before)[0]
    lost = pq.ParquetFile(victim).metadata.num_rows
    victim.unlink()
    (directory / "run.json").unlink()
    (directory / "half.parquet.tmp-1234").write_bytes(b"debris")
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    assert outcome(Path(phantom_study.root), "pixels32") == (200, 199, 1, 200)
    assert phantom_study.require("embeddings", "encoder=pixels32")["last_attempt"]["images"] == lost
    assert not list(directory.glob("*.tmp-*"))


def test_a_grown_manifest_embeds_only_the_new_images(ray_session, phantom_study, phantoms):
    from cbmir.datasets import Options
    from cbmir.datasets.manifest import write_manifest

    table = pq.read_table(phantom_study.files("manifest")[0])
    run = phantom_study.require("manifest")
    with phantom_study.publishing("manifest") as out:
        out.write_table(table.slice(0, 120), "manifest.parquet", "manifest")
        out.run = run | {"rows": 120, "fingerprint": "part", "inputs": {"content": "part"}}
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    write_manifest(phantom_study, "phantoms", [str(phantoms)], Options(), overwrite=True)
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    assert phantom_study.require("embeddings", "encoder=pixels32")["last_attempt"]["images"] == 80
    assert outcome(Path(phantom_study.root), "pixels32") == (200, 199, 1, 200)


def test_too_many_failures_keep_what_succeeded(ray_session, phantom_study):
    with pytest.raises(
        TooManyFailures, match=r"pixels32: 1 of 200 images failed \(0.5%\), more than --max-failures 0.1%"
    ) as error:
        embed(phantom_study, ["pixels32"], EmbedOptions(max_failures=0.001), say=str)
    assert error.value.exit_code == 3
    assert outcome(Path(phantom_study.root), "pixels32") == (200, 199, 1, 200)
    assert embed(phantom_study, ["pixels32"], EmbedOptions(max_failures=0.01), say=str)[0].embedded == 199


def test_failures_say_where_and_why_and_can_be_retried(ray_session, phantom_study):
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    (row,) = pq.read_table(phantom_study.files("failures", "encoder=pixels32")).to_pylist()
    assert row["stage"] in ("read", "decode")
    assert "\n" not in row["error"]
    manifest = pq.read_table(phantom_study.files("manifest")[0]).to_pylist()
    (broken,) = [r for r in manifest if r["image_key"] == row["image_key"]]
    assert broken["uri"] == row["uri"]
    good = next(r["uri"] for r in manifest if r["image_key"] != row["image_key"] and r["uri"].endswith(".png"))
    mended = Path(row["uri"])
    before = mended.read_bytes() if mended.exists() else None
    try:
        mended.write_bytes(Path(good).read_bytes())
        (result,) = embed(phantom_study, ["pixels32"], EmbedOptions(retry_failures=True), say=str)
    finally:
        mended.unlink() if before is None else mended.write_bytes(before)
    assert (result.embedded, result.failed) == (200, 0)


def weights_file(path: Path, seed: int) -> dict[str, str]:
    """A file of weights drawn with `seed`, as options.weights has it."""
    import timm
    import torch

    torch.manual_seed(seed)
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    return {"": str(path)}


def test_vectors_made_otherwise_are_refused_until_overwritten(ray_session, phantom_study, tmp_path):
    name, weights = "same=timm:test_resnet", weights_file(tmp_path / "w0.pth", 0)
    embed(phantom_study, [name], EmbedOptions(weights=weights), say=str)
    for other, options, reason in (
        (name, EmbedOptions(weights=weights_file(tmp_path / "w1.pth", 1)), r"weights \w{12} there, \w{12} now"),
        (name + "@96", EmbedOptions(weights=weights), "other geometry"),
        (name, EmbedOptions(weights=weights, precision="bfloat16"), "another precision"),
        (name, EmbedOptions(weights=weights, dtype="float16"), "stored as float32 there, float16 now"),
    ):
        with pytest.raises(UserError, match=rf"embeddings of same made otherwise \({reason}\).*--overwrite"):
            embed(phantom_study, [other], options, say=str)
    embed(phantom_study, [name], EmbedOptions(weights=weights, dtype="float16", overwrite=True), say=str)
    file = next(Path(phantom_study.root).glob("embeddings/encoder=same/*.parquet"))
    assert pq.ParquetFile(file).schema_arrow.field("embedding").type.value_type == pa.float16()
    assert outcome(Path(phantom_study.root), "same") == (200, 199, 1, 200)


def test_a_vector_that_is_not_finite_is_a_failure(ray_session, phantom_study, tmp_path):
    import timm
    import torch

    model = timm.create_model("test_resnet")
    state = model.state_dict()
    name = next(k for k, v in state.items() if k.endswith("conv1.weight") and v.is_floating_point())
    state[name] = torch.full_like(state[name], float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(TooManyFailures, match="200 of 200 images failed"):
        embed(phantom_study, ["bad=timm:test_resnet"], EmbedOptions(weights={"": str(tmp_path / "nan.pth")}), say=str)
    rows = pq.read_table(phantom_study.files("failures", "encoder=bad")).to_pylist()
    assert sum(row["stage"] == "encode" and "not finite" in row["error"] for row in rows) == 199


@pytest.mark.parametrize(
    "encoders, options, message",
    [
        (["pixels"], EmbedOptions(), "unknown encoder 'pixels'; nearest: 'pixels32'"),
        ([], EmbedOptions(), "no encoder named"),
        (["pixels32", "pixels32"], EmbedOptions(), "encoder pixels32 is named twice"),
        (["pixels32"], EmbedOptions(batch_size=0), "--batch-size 0; expected 1 or more"),
        (["pixels32"], EmbedOptions(image_size=3), "--image-size 3; expected 8 to 4096"),
        (["pixels32"], EmbedOptions(max_failures=1.5), "--max-failures 1.5; expected a share"),
        (
            ["pixels32"],
            EmbedOptions(weights={"": "x"}),
            "--weights FILE fits one encoder; 0 of those named take weights",
        ),
        (
            ["timm:test_resnet"],
            EmbedOptions(weights={"": "/no/such.pth"}),
            "no weights file /no/such.pth for timm:test_resnet",
        ),
        (["pixels32"], EmbedOptions(weights={"timm:x": "y"}), "--weights timm:x=...: no such --encoder"),
    ],
)
def test_misuse_is_said_before_ray_starts_and_writes_nothing(phantom_study, encoders, options, message, monkeypatch):
    monkeypatch.setattr("cbmir.embed.ray_session", lambda *_: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match=message) as error:
        embed(phantom_study, encoders, options, say=str)
    assert "\n" not in str(error.value)
    assert not phantom_study.exists("embeddings")


def test_a_lost_file_is_noticed_although_run_json_stands(ray_session, phantom_study):
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    Path(phantom_study.files("embeddings", "encoder=pixels32")[0]).unlink()
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    assert outcome(Path(phantom_study.root), "pixels32") == (200, 199, 1, 200)


def test_the_fingerprint_says_which_images_have_a_vector(tmp_path):
    """So that a search made before a failure was retried is known to be outdated."""
    from cbmir.embedding.account import embedded_digest
    from tests.studies import make_study

    rows = [{"image_id": "a/1"}, {"image_id": "a/2"}]
    one = make_study(tmp_path / "one", rows, {"a/1": np.ones(2)})
    both = make_study(tmp_path / "both", rows, {"a/1": np.ones(2), "a/2": np.ones(2)})
    again = make_study(tmp_path / "again", rows, {"a/1": np.zeros(2), "a/2": np.ones(2)}, files=2)
    assert embedded_digest(one, "pixels32") != embedded_digest(both, "pixels32") == embedded_digest(again, "pixels32")


def test_what_float16_would_make_infinite_is_a_failure(phantom_study):
    from cbmir.embedding.sink import EmbeddingSink

    phantom_study.write_json({"attempt": "a"}, "embeddings", "encoder=pixels32", "started.json")
    sink = EmbeddingSink(phantom_study.root, ["pixels32"], attempt="a", dtype="float16", rows_per_file=1)
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 70_000.0, 1.0], pa.float32()), 2)
    nothing = pa.nulls(2, pa.string())
    block = pa.table(
        {
            "image_key": [1, 2],
            "uri": ["u", "v"],
            "need": [1, 1],
            "stage": nothing,
            "error": nothing,
            "embedding_0": lists,
        }
    )
    sink.write([block], None)
    assert pq.read_table(phantom_study.files("embeddings", "encoder=pixels32"), partitioning=None)[
        "image_key"
    ].to_pylist() == [1]
    (failure,) = pq.read_table(phantom_study.files("failures", "encoder=pixels32"), partitioning=None).to_pylist()
    assert (failure["image_key"], failure["stage"]) == (2, "encode")


def test_a_running_embed_keeps_its_addresses_when_another_starts(phantom_study):
    from cbmir.embedding.addresses import sweep, write_addresses

    for encoder, attempt in (("pixels32", "mine"), ("other", "theirs")):
        phantom_study.write_json({"attempt": attempt}, "embeddings", f"encoder={encoder}", "started.json")
        write_addresses(phantom_study, [encoder], attempt, least_rows=50)
    write_addresses(phantom_study, ["pixels32"], "killed", least_rows=50)
    sweep(phantom_study)
    assert phantom_study.names(".staging") == ["todo-mine", "todo-theirs"]


def test_no_gpu_is_said(ray_session, phantom_study):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="--device cuda: Ray sees no GPU"):
        embed(phantom_study, ["pixels32"], EmbedOptions(device="cuda"), say=str)


def test_a_study_without_manifest_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"no study at .*nothing; expected a directory made by: cbmir manifest"):
        embed(Study(str(tmp_path / "nothing")), ["pixels32"], EmbedOptions(), say=str)


def test_rows_that_stand_twice_are_dropped_and_an_embedding_goes_before_a_failure(ray_session, phantom_study):
    embed(phantom_study, ["pixels32"], EmbedOptions(), say=str)
    first = phantom_study.files("embeddings", "encoder=pixels32")[0]
    again = pq.ParquetFile(first).read().slice(0, 3)
    phantom_study.write_table(again, "embeddings", "encoder=pixels32", "zombie.parquet")
    key, uri = again["image_key"][0].as_py(), "x"
    failure = pa.table([[key], [uri], ["read"], ["late"]], schema=FAILURES)
    phantom_study.write_table(failure, "failures", "encoder=pixels32", "zombie.parquet")
    assert remove_doubles(phantom_study, embedded_by("pixels32")) == 4
    assert outcome(Path(phantom_study.root), "pixels32") == (200, 199, 1, 200)
    assert account(phantom_study, "pixels32").embedded == 199


def test_a_task_of_a_superseded_run_does_not_write(phantom_study):
    from cbmir.embedding.sink import EmbeddingSink

    phantom_study.write_json({"attempt": "new"}, "embeddings", "encoder=pixels32", "started.json")
    sink = EmbeddingSink(phantom_study.root, ["pixels32"], attempt="old", dtype="float32", rows_per_file=1)
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0], pa.float32()), 2)
    block = pa.table(
        {
            "image_key": [1],
            "uri": ["u"],
            "need": [1],
            "stage": pa.nulls(1, pa.string()),
            "error": pa.nulls(1, pa.string()),
            "embedding_0": lists,
        }
    )
    with pytest.raises(UserError, match="another run has taken over"):
        sink.write([block], None)
    assert not phantom_study.files("embeddings", "encoder=pixels32")
