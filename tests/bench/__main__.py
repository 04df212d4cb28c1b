"""`python -m tests.bench [NAME ...]`: run all benchmarks, or those named."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

from cbmir.store import versions
from tests.bench import (
    ann_speed,
    check_memory,
    embed_scaling,
    embed_speed,
    encoder_speed,
    evaluate_speed,
    exact_speed,
    interval_speed,
    knn_speed,
    manifest_speed,
    nested_speed,
    pack_speed,
    query_speed,
    volume_speed,
)

BENCHES = {
    "embed_speed": embed_speed.run,
    "embed_scaling": embed_scaling.run,
    "manifest_speed": manifest_speed.run,
    "check_memory": check_memory.run,
    "encoder_speed": encoder_speed.run,
    "pack_speed": pack_speed.run,
    "exact_speed": exact_speed.run,
    "ann_speed": ann_speed.run,
    "query_speed": query_speed.run,
    "evaluate_speed": evaluate_speed.run,
    "interval_speed": interval_speed.run,
    "knn_speed": knn_speed.run,
    "nested_speed": nested_speed.run,
    "volume_speed": volume_speed.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--encoder", action="append", help="of encoder_speed: this one, not all rows; may be repeated")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="of encoder_speed: default the GPU where there is one"
    )
    asked = parser.parse_args()
    names = asked.names or list(BENCHES)
    options = {"encoder_speed": {"encoders": asked.encoder, "device": asked.device}}
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"no benchmark '{unknown[0]}'; there: {', '.join(BENCHES)}")
    made = versions()
    print(
        f"machine: {os.cpu_count()} cores, {processor()}; torch {made['torch']}, ray {made['ray']}, python {made['python']}"
    )
    with tempfile.TemporaryDirectory(prefix="cbmir-bench-") as scratch:
        for name in names:
            print(f"\n{name}", flush=True)
            BENCHES[name](Path(scratch), **options.get(name, {}))


def processor() -> str:
    """Name of the processor, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
