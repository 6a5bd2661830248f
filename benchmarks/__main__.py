"""`python -m benchmarks`: run everything, print a table, write benchmarks/results/stack.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import stack

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown, aims beside them."""
    predictor, product = found["predictor"], found["stack"]
    rows = [("what", "measured", "aim")]
    rows += [(f"model alone, {name}", f"{rate:,.0f} texts/s", "") for name, rate in predictor["texts_per_s"].items()]
    rows.append(("model alone, a text 10 times as long costs", f"{predictor['cost_of_10x_text']} x", "<= 11 x"))
    for name, entry in product.items():
        if not isinstance(entry, dict) or "latency_ms" not in entry:
            continue
        latency = entry["latency_ms"]
        measured = f"{entry['per_s']:,.0f} jobs/s, p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"
        rows.append((name, f"{measured}, mean batch {entry['mean_batch']}", "0 failed" if not entry["failed"] else ""))
    overhead = product["1 users, 20 words"]["overhead_ms"]["p50"]
    memory = product["memory_mb"]
    rows += [
        ("throughput of 64 users against batches of 1", f"{product['gain_of_batching']} x", ">= 4 x"),
        ("submit to stored, less the model's time, p50", f"{overhead:.0f} ms", "<= 25 ms"),
        ("memory of the web process", f"{memory['web']} MB", "<= 150 MB"),
        ("memory of the worker", f"{memory['fast']} MB", "<= 600 MB"),
        ("first start / second start", f"{product['first_start_s']} s / {product['second_start_s']} s", "- / < 10 s"),
    ]
    lines = [f"| {a} | {b} | {c} |" for a, b, c in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def main() -> int:
    """Measure, print, store."""
    command = [sys.executable, "-m", "benchmarks.predictor"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=RESULTS.parent.parent)
    found = {"machine": machine(), "predictor": json.loads(done.stdout), "stack": stack.measure()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stack.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
