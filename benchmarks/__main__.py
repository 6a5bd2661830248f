"""`python -m benchmarks`: run everything, print a table, write benchmarks/results/stack.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import photos, stack

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
    memory, quiet = product["memory_mb"], product["memory_quiet_mb"]
    for name, rates in found["photos"].items():
        shown = rates if name in photos.TASKS else {f"{rates['photo_bytes'] // 1000} kB JPEG": rates["per_s"]}
        rows += [(f"{name}: {part}", f"{rate:,.0f} photos/s", "") for part, rate in shown.items()]
    for name, wait in product.get("photo_ms", {}).items():
        aim = "p50 <= 250 ms" if name in photos.TASKS else ""
        rows.append((f"1 user, 1 photo, {name}", f"p50 {wait['p50']} ms, p95 {wait['p95']} ms", aim))
    rows += [*_writing(found["generation"], product["generation"])]
    rows += [*_translating(found["translation"], product["translation_ms"])]
    rows += [
        ("throughput of 64 users against batches of 1", f"{product['gain_of_batching']} x", ">= 4 x"),
        ("submit to stored, less the model's time, p50", f"{overhead:.0f} ms", "<= 25 ms"),
        ("memory of the web process", f"{memory['web']} MB, quiet {quiet['web']} MB", "<= 150 MB"),
        ("memory of the worker", f"{memory['fast']} MB, quiet {quiet['fast']} MB", "<= 600 MB"),
        ("first start / second start", f"{product['first_start_s']} s / {product['second_start_s']} s", "- / < 10 s"),
    ]
    lines = [f"| {a} | {b} | {c} |" for a, b, c in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def _writing(engine: dict[str, Any], streams: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for count, rate in engine["tokens_per_s"].items():
        yield f"writing, {count} at once", f"{rate:,.0f} tokens/s", ""
    for place, cost in engine["ms_of_token"].items():
        state = engine["bytes_of_state"][place]
        yield f"writing, token {place} of one text", f"{cost} ms, {state:,} bytes of state", "as the first"
    alone, together = streams["alone"], streams["together"]
    yield "1 stream", f"first token {alone['first_ms']} ms, {alone['tokens_per_s']} tokens/s", ""
    measured = f"first token p95 {together['first_p95_ms']} ms, {together['each_tokens_per_s']} tokens/s each"
    yield f"{together['streams']} streams at once", measured, ""
    yield "all of them against one alone", f"{together['gain']} x", ">= 5 x"
    yield "from stop to the text as it is kept", f"{streams['stop_ms']} ms", "<= 200 ms"


def _translating(model: dict[str, Any], waits: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, rate in model["sentences_per_s"].items():
        yield f"translation, {name}", f"{rate:,.0f} sentences/s", ""
    shown = ", ".join(f"{name} {share * 100:.0f} %" for name, share in model["shares"].items())
    yield "translation, where the time goes (beam 5, batch 64)", shown, ""
    sentence, long = waits["sentence"], waits["long_text"]
    yield "1 user, a sentence of 19 words", f"p50 {sentence['p50']} ms, p95 {sentence['p95']} ms", "p50 <= 200 ms"
    measured = f"first sentences after {long['first_ms']} ms, all after {long['whole_ms']} ms"
    yield f"1 user, a text of {long['words']:,} words", measured, ""


def _alone(module: str) -> Any:
    """What a module prints, measured in a process of its own."""
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=RESULTS.parent.parent)
    return json.loads(done.stdout)


def main() -> int:
    """Measure, print, store."""
    found = {
        "machine": machine(),
        "predictor": _alone("benchmarks.predictor"),
        "photos": _alone("benchmarks.photos"),
        "generation": _alone("benchmarks.generation"),
        "translation": _alone("benchmarks.translation"),
        "stack": stack.measure(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stack.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
