"""`python -m benchmarks`: run everything, print a table, write benchmarks/results/stack.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import generation, photos, stack, translation

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
    for name, rates in found["photos"].items():
        shown = rates if name in photos.TASKS else {f"{rates['photo_bytes'] // 1000} kB JPEG": rates["per_s"]}
        rows += [(f"{name}: {part}", f"{rate:,.0f} photos/s", "") for part, rate in shown.items()]
    for name, wait in product.get("photo_ms", {}).items():
        aim = "p50 <= 250 ms" if name in photos.TASKS else ""
        rows.append((f"1 user, 1 photo, {name}", f"p50 {wait['p50']} ms, p95 {wait['p95']} ms", aim))
    for rows_, rate in found["generation"].get("tokens_per_s", {}).items():
        rows.append((f"writing, {rows_} at once", f"{rate:,.0f} tokens/s", ""))
    for place, cost in found["generation"].get("ms_of_token", {}).items():
        rows.append((f"writing, token {place} of one text", f"{cost} ms", "as the first"))
    if streams := product.get("generation"):
        alone, together = streams["alone"], streams["together"]
        rows.append(("1 stream", f"first token {alone['first_ms']} ms, {alone['tokens_per_s']} tokens/s", ""))
        measured = f"first token p95 {together['first_p95_ms']} ms, {together['each_tokens_per_s']} tokens/s each"
        rows.append((f"{together['streams']} streams at once", measured, ""))
        rows.append(("all of them against one alone", f"{together['gain']} x", ">= 5 x"))
        rows.append(("from stop to the last token", f"{streams['stop_ms']} ms", "<= 200 ms"))
    for name, rate in found["translation"].get("sentences_per_s", {}).items():
        rows.append((f"translation, {name}", f"{rate:,.0f} sentences/s", ""))
    if shares := found["translation"].get("shares"):
        shown = ", ".join(f"{name} {share * 100:.0f} %" for name, share in shares.items())
        rows.append(("translation, where the time goes (beam 5, batch 64)", shown, ""))
    if wait := product.get("translation_ms"):
        sentence, long = wait["sentence"], wait["long_text"]
        rows.append(
            ("1 user, a sentence of 15 words", f"p50 {sentence['p50']} ms, p95 {sentence['p95']} ms", "p50 <= 200 ms")
        )
        measured = f"first sentences after {long['first_ms']} ms, all after {long['whole_ms']} ms"
        rows.append((f"1 user, a text of {long['words']:,} words", measured, ""))
    rows += [
        ("throughput of 64 users against batches of 1", f"{product['gain_of_batching']} x", ">= 4 x"),
        ("submit to stored, less the model's time, p50", f"{overhead:.0f} ms", "<= 25 ms"),
        ("memory of the web process", f"{memory['web']} MB", "<= 150 MB"),
        ("memory of the worker", f"{memory['fast']} MB", "<= 800 MB"),
        ("first start / second start", f"{product['first_start_s']} s / {product['second_start_s']} s", "- / < 10 s"),
    ]
    lines = [f"| {a} | {b} | {c} |" for a, b, c in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


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
        "photos": _alone("benchmarks.photos") if photos.shipped() else {},
        "generation": _alone("benchmarks.generation") if generation.shipped() else {},
        "translation": _alone("benchmarks.translation") if translation.shipped() else {},
        "stack": stack.measure(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stack.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
