"""`python -m benchmarks.training`: tokens a second of the trainer's levers, together and one left out at a time.

The work is a language model of 512 units over 12,000 words on sentences of 4 to 60 tokens (made up: speed does not
depend on what they say). Each row runs in a process of its own, because the allocator is set before torch loads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LEVERS = ("bfloat16", "buffers", "fused", "blockwise", "shapes")
VOCABULARY, WIDTH, EMBEDDING, TOKENS = 12_000, 512, 256, 4_000


def run(levers: set[str], seconds: float) -> float:
    """Tokens a second with these levers, after a warm-up of a third of the time."""
    if "buffers" in levers:
        from mlcore.training.process import keep_buffers

        keep_buffers()
    import numpy as np
    import torch
    from torch import nn

    from mlcore.training.data import bucket_batches, padded_length
    from mlcore.training.losses import blockwise_cross_entropy
    from mlcore.training.process import has_fast_bfloat16

    torch.manual_seed(1)
    generator = np.random.default_rng(1)
    lengths = np.clip(generator.gamma(4.0, 5.0, size=20_000).astype(int) + 4, 4, 60)
    if "shapes" in levers:
        groups = bucket_batches(lengths.tolist(), tokens_per_batch=TOKENS, max_rows=256, generator=generator)
    else:  # sorted by length, cut where a batch is full
        order = np.argsort(lengths, kind="stable")
        ends = np.flatnonzero(np.diff(np.cumsum(lengths[order]) // TOKENS)) + 1
        groups = np.split(order, ends)
        generator.shuffle(groups)  # type: ignore[arg-type]
    embedding = nn.Embedding(VOCABULARY, EMBEDDING)
    lstm = nn.LSTM(EMBEDDING, WIDTH, num_layers=2, batch_first=True)
    project = nn.Linear(WIDTH, EMBEDDING)
    bias = nn.Parameter(torch.zeros(VOCABULARY))
    parameters = [*embedding.parameters(), *lstm.parameters(), *project.parameters(), bias]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused="fused" in levers, foreach=False)
    low = "bfloat16" in levers and has_fast_bfloat16()
    done, number, warm = 0, 0, time.monotonic() + seconds / 3
    end, started = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        rows = groups[number % len(groups)]
        number += 1
        longest = int(lengths[rows].max())
        steps = padded_length(longest) if "shapes" in levers else longest
        tokens = torch.from_numpy(generator.integers(4, VOCABULARY, size=(len(rows), steps + 1)))
        tokens[:, 1:][torch.arange(steps)[None] >= torch.from_numpy(lengths[rows])[:, None]] = 0
        goal = tokens[:, 1:].flatten()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            hidden = project(lstm(embedding(tokens[:, :-1]))[0]).flatten(0, 1)
            if "blockwise" in levers:
                real = goal.nonzero()[:, 0]
                loss = blockwise_cross_entropy(hidden[real], embedding.weight, bias, goal[real]) / len(real)
            else:
                logits = nn.functional.linear(hidden, embedding.weight, bias)
                loss = nn.CrossEntropyLoss(ignore_index=0)(logits.float(), goal)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if time.monotonic() > warm:
            done += int(lengths[rows].sum())
        else:
            started = time.monotonic()
    return done / (time.monotonic() - started)


def _apart(levers: tuple[str, ...], seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.training", "--run", ",".join(levers), str(seconds)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def measure(seconds: float = 24.0) -> dict[str, Any]:
    """Tokens a second by row, and the gain of all levers together."""
    found: dict[str, Any] = {"none": _apart((), seconds), "all": _apart(LEVERS, seconds)}
    for lever in LEVERS:
        found[f"all but {lever}"] = _apart(tuple(name for name in LEVERS if name != lever), seconds)
    return {"tokens_per_s": found, "gain": round(found["all"] / found["none"], 2)}


def main() -> int:
    """Measure, print, store."""
    if sys.argv[1:2] == ["--run"]:
        print(run(set(filter(None, sys.argv[2].split(","))), float(sys.argv[3])))
        return 0
    from benchmarks.__main__ import RESULTS, machine
    from mlcore.training.process import has_fast_bfloat16

    found = {"machine": machine() | {"fast_bfloat16": has_fast_bfloat16()}, **measure()}
    (RESULTS / "training.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, rate in found["tokens_per_s"].items():
        print(f"{name:<20}{rate:>10,.0f} tokens/s")
    print(f"gain of all levers: {found['gain']} x (aim: 3 x on a CPU that multiplies bfloat16 in hardware)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
