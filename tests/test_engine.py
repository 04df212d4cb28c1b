"""The embedding engine on a real local Ray: whatever the groups, rounds, batches and workers, the vectors are the same; and what it tells of itself."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cbmir import embed as stage
from cbmir.cli import main
from cbmir.datasets import Options
from cbmir.datasets.manifest import write_manifest
from cbmir.embed import embed
from cbmir.embedding import pipeline, watch
from cbmir.embedding.options import EmbedOptions
from cbmir.embedding.packing import Group, Packing
from cbmir.embedding.tally import Counts, Crew
from cbmir.store import Study
from tests.processes import outcome

RESNET, VIT, LARGER = "timm:test_resnet~random0", "vit=timm:test_vit~random0", "larger=timm:test_vit@192~random0"
NAMES = {RESNET: "timm%3Atest_resnet~random0", VIT: "vit~random0", LARGER: "larger~random0", "pixels32": "pixels32"}


def vectors(study: Study, encoder: str) -> dict[int, np.ndarray]:
    directory = Path(study.root, "embeddings", f"encoder={NAMES[encoder]}")
    table = pq.ParquetDataset(sorted(map(str, directory.glob("*.parquet"))), partitioning=None).read()
    return dict(zip(table["image_key"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float64), strict=True))


def least_cosine(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    left, right = (np.stack([found[key] for key in sorted(found)]) for found in (one, other))
    return float(((left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())


@pytest.fixture(scope="module")
def studies(phantoms, tmp_path_factory):
    """A function that makes studies of the same drawn images."""

    def make() -> Study:
        study = Study(str(tmp_path_factory.mktemp("engine") / "study"))
        write_manifest(study, "phantoms", [str(phantoms)], Options())
        return study

    return make


@pytest.fixture(scope="module")
def together(ray_session, studies):
    """Four encoders in one pass, as they come."""
    study = studies()
    embed(study, ["pixels32", RESNET, VIT, LARGER], EmbedOptions(), say=str)
    return study


def packed_as(*rounds):
    groups = tuple(tuple(Group(members, 1, 0.0, 0.4, 1) for members in round_) for round_ in rounds)
    return lambda needs, found, device, device_memory=None: Packing(groups, task_cpus=0.5)


@pytest.mark.parametrize(
    "rounds",
    [
        [((1, 3), (0, 2))],  # two groups at the same time, one behind the other
        [((0, 1, 2, 3),)],
        [((3,), (2,)), ((0, 1),)],  # two rounds, the first of two groups
    ],
)
def test_groups_and_rounds_give_the_same_vectors(together, studies, monkeypatch, rounds):
    monkeypatch.setattr(stage, "pack", packed_as(*rounds))
    study, said = studies(), []
    embed(study, ["pixels32", RESNET, VIT, LARGER], EmbedOptions(), say=said.append)
    for name in NAMES:
        assert outcome(Path(study.root), NAMES[name]) == (200, 199, 1, 200)
        assert least_cosine(vectors(together, name), vectors(study, name)) >= 0.99999
    assert sum("bottleneck" in line for line in said) == len(rounds)
    if len(rounds) == 2:
        assert said[0].startswith("embed (1 of 2): 200 images in ")


@pytest.mark.parametrize(
    "encoders, options",
    [
        ([VIT], EmbedOptions(batch_size=3)),
        ([RESNET], EmbedOptions(batch_size=7, decode_workers=1)),
        ([RESNET, VIT], EmbedOptions(color_resize=True, whole_decode=True)),
    ],
    ids=["few-at-a-time", "odd-batches-one-worker", "slow-decoding"],
)
def test_batches_workers_and_the_other_encoders_do_not_matter(together, studies, encoders, options):
    """float32 to six digits; bfloat16, whose kernels round differently by shape, to a cosine of 0.999."""
    study = studies()
    embed(study, encoders, options, say=str)
    for name in encoders:
        least = {RESNET: 0.999999, VIT: 0.999}[name]
        assert least_cosine(vectors(together, name), vectors(study, name)) >= least


def test_what_the_run_tells_of_itself_is_kept(together):
    told = together.require("embeddings", f"encoder={NAMES[VIT]}")["last_attempt"]
    assert told["images"] == 200
    assert set(told["seconds_by"]["forward"]) == {"pixels32", RESNET, "vit~random0", "larger~random0"}
    assert all(spent > 0 for name, spent in told["seconds_by"]["forward"].items() if name != "pixels32")
    assert 0 < told["saturation"] <= 1
    assert min(told["seconds_by"][name] for name in ("decode", "resize", "write", "wait", "pass on")) > 0
    assert told["images_per_second_and_device"] == pytest.approx(told["images_per_second"] / told["devices"], abs=0.01)
    assert told["start_up_seconds"] < told["seconds"]
    spent = sum(told["seconds_by"]["forward"].values()) + told["seconds_by"]["wait"]
    wall = told["images"] / told["images_per_second"]
    assert spent == pytest.approx(wall * told["devices"], rel=0.02)


def test_profile_is_a_timeline_of_the_workers(ray_session, phantom_study, tmp_path, capsys):
    file = tmp_path / "timeline.json"
    arguments = ["embed", "--study", phantom_study.root, "--encoder", "pixels32", "--profile"]
    assert main([*arguments, str(file)]) == 0
    names = {event.get("cat") for event in json.loads(file.read_text())}
    assert any("decode_block" in str(name) for name in names), names
    assert f"timeline of the workers: {file}" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "none" / "t.json"), "--overwrite"]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_memory_is_bounded_by_batches_on_their_way(ray_session, studies, monkeypatch):
    """Encoders much slower than the decoders: these wait, and what lies between does not grow with the collection."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    def used() -> int:
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        return get_memory_info_reply(state).store_stats.object_store_bytes_used

    peaks, bounds, stop = [0], [], threading.Event()

    def look():
        while not stop.wait(0.1):
            peaks.append(used() - before)

    real = pipeline.shape_of
    monkeypatch.setattr(pipeline, "shape_of", lambda *a: bounds.append(real(*a)) or bounds[-1])
    before, thread = used(), threading.Thread(target=look)
    thread.start()
    try:
        embed(studies(), ["large=timm:test_vit@512~random0"], EmbedOptions(batch_size=4), say=str)
    finally:
        stop.set()
        thread.join()
    everything = 200 * bounds[0].row_bytes
    assert bounds[0].most_bytes(200) < everything / 2  # or nothing is shown
    assert 0 < max(peaks) <= bounds[0].most_bytes(200)


def test_vectors_that_wait_for_their_file_do_not_stop_the_rest(ray_session, tmp_path, monkeypatch):
    """Thumbnails take less memory than their vectors, of which thousands wait to be written together: without room for these all would stand still."""
    rng = np.random.default_rng(0)
    parts = {"train": 4_096, "val": 8, "test": 96}
    images = {f"{part}_images": rng.integers(0, 255, (n, 28, 28), np.uint8) for part, n in parts.items()}
    labels = {f"{part}_labels": np.zeros((n, 1), np.uint8) for part, n in parts.items()}
    np.savez(tmp_path / "breastmnist.npz", **images, **labels)
    study = Study(str(tmp_path / "study"))
    write_manifest(study, "medmnist", [str(tmp_path / "breastmnist.npz")], Options())
    monkeypatch.setattr(pipeline.Shape, "file_rows", lambda shape, total: 4_096)
    began = time.monotonic()
    embed(study, ["pixels32"], EmbedOptions(), say=str)
    assert study.require("embeddings", "encoder=pixels32")["rows"] == 4_200
    assert time.monotonic() - began < 60


SPILL = """
import time, numpy as np, ray
from cbmir.cluster import ray_session, spilled_bytes
ray.init(address="local", object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
before = spilled_bytes()
kept = [ray.put(np.zeros(20 << 20, np.uint8)) for _ in range(8)]
end = time.monotonic() + 60  # the store tells of it a moment later
while spilled_bytes() < 80 << 20 and time.monotonic() < end:
    time.sleep(0.2)
print(before, spilled_bytes())
ray.shutdown()
"""


def test_spilling_is_seen():
    done = subprocess.run([sys.executable, "-c", SPILL], capture_output=True, text=True, check=True, timeout=120)
    before, after = map(int, done.stdout.split())
    assert before == 0
    assert after >= 80 << 20


class Told:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def update(self, done, failed=0, note=""):
        self.notes.append(note)


def test_a_person_sees_what_the_run_waits_for_and_one_warning_of_spilling(ray_session, monkeypatch, capsys):
    spilled = iter([5, 5, 9, 12])
    monkeypatch.setattr(watch, "spilled_bytes", lambda: next(spilled))
    monkeypatch.setattr(watch, "WINDOW", 0.0)
    seen = watch.Watch(None, Told(), ["vit"], Crew(1, 8, on_cores=False))
    assert seen.note == "loading encoders"
    for rows in (64, 128, 192):
        counts = Counts(spans={"a": (0.0, rows / 10)})
        counts.encoded[0] = rows
        counts.forward[0] = rows / 100
        counts.seconds["decode"] = rows / 10
        seen._judge(counts)
    assert seen.note == "bottleneck: decode"
    assert capsys.readouterr().err.count("spills to disk") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [(["--decode-workers", "0"], "--decode-workers 0; expected 1 or more"), (["--batch-size", "0"], "--batch-size 0")],
)
def test_misuse_is_one_line(phantom_study, capsys, arguments, message):
    assert main(["embed", "--study", phantom_study.root, "--encoder", "pixels32", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
