"""cluster.yaml against Ray's own schema, and a job submitted to a cluster with token authentication."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.processes import outcome

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def test_cluster_yaml_keeps_rays_schema():
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_wrokers": 3}, schema)


def test_cluster_yaml_is_accepted_by_the_launcher():
    """The launcher's own preparation: defaults filled in, node types and resources checked."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(config))


@pytest.fixture
def cluster(tmp_path):
    """`ray start --head` with a token, on ports of its own; stopped by the processes that it started."""
    import socket

    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for each in (a, b, c):
            each.bind(("127.0.0.1", 0))
        port, dashboard, agent = (each.getsockname()[1] for each in (a, b, c))
    session = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    session = session / f"cbmir-{secrets.token_hex(4)}"  # short: Ray's sockets have a limit of 107 characters
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    command = [BIN / "ray", "start", "--head", "--block", "--num-cpus=2", f"--port={port}", "--node-ip-address=127.0.0.1",
               "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}", f"--temp-dir={session}",
               "--object-store-memory=300000000"]  # fmt: skip
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{dashboard}", environment, head
    finally:
        head.terminate()  # with --block, the head stops what it has started
        head.wait(timeout=60)
        import shutil

        shutil.rmtree(session, ignore_errors=True)


def submit(address: str, environment: dict, *arguments: str) -> subprocess.CompletedProcess:
    """`ray job submit`; the dashboard answers a little before the agent that runs jobs is there, so that is waited for."""
    command = [
        BIN / "ray",
        "job",
        "submit",
        "--address",
        address,
        "--working-dir",
        str(ROOT / "jobs"),
        "--",
        *arguments,
    ]
    for _ in range(40):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
        if "No available agent" not in done.stderr:
            break
        time.sleep(3)
    return done


def wait_for_dashboard(address: str, environment: dict, head: subprocess.Popen) -> None:
    import urllib.request

    for _ in range(240):
        assert head.poll() is None, "ray start ended"
        request = urllib.request.Request(
            f"{address}/api/jobs/", headers={"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the dashboard did not come up")


@pytest.mark.slow
def test_a_submitted_job_runs_the_whole_pipeline_under_token_authentication(cluster, phantoms, tmp_path):
    address, environment, head = cluster
    wait_for_dashboard(address, environment, head)
    stranger = environment | {"RAY_AUTH_TOKEN": "wrong"}
    refused = submit(address, stranger, "python", "-c", "print('let in')")
    assert refused.returncode != 0
    assert "let in" not in refused.stdout
    study = tmp_path / "study"
    done = submit(
        address,
        environment,
        sys.executable,
        "run.py",
        "phantoms",
        str(phantoms),
        "--study",
        str(study),
        "--encoder",
        "pixels32",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pixels32: 199 embedded, 1 failed: see failures" in done.stdout
    assert "report:" in done.stdout
    assert outcome(study, "pixels32") == (200, 199, 1, 200)
    assert (study / "report" / "report.html").stat().st_size > 10_000
