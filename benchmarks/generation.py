"""Tokens a second of the writer, alone and sixteen at once; the cost of late tokens; waits through the whole stack.

`python -m benchmarks.generation` prints the first as JSON; `through(product)` measures the second.
"""

from __future__ import annotations

import http.client
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

TASK = "text-generation"
STREAMS = 16
TOKENS = 200
PROMPT = "The fog lay thick upon the river when we left the house, and"


def measure() -> dict[str, Any]:
    """Tokens a second by rows in the batch; milliseconds and bytes of state at tokens 10 and 900 of one text."""
    from mlcore import generation
    from mlcore.__main__ import find_bundle
    from mlcore.engine import Final
    from mlcore.predictor import Predictor

    predictor = Predictor(find_bundle(TASK))
    rates: dict[str, float] = {}
    for rows in (1, 4, STREAMS):
        engine = predictor.engine(rows)
        for seed in range(rows):
            engine.add(seed, predictor.prepare({"prompt": PROMPT}, {"seed": seed, "max_new_tokens": TOKENS}))
        started, made = time.perf_counter(), 0
        while engine.rows:
            made += sum(len(event.output["tokens"]) for _, event in engine.step() if isinstance(event, Final))
        rates[str(rows)] = round(made / (time.perf_counter() - started), 1)
    generation.STEP_S = 0.0  # one token a step
    engine = predictor.engine(1)
    engine.add(0, predictor.prepare({"prompt": PROMPT}, {"seed": 1, "max_new_tokens": 1_000}))
    taken: list[float] = []
    held: list[int] = []
    while engine.rows:
        started = time.perf_counter()
        engine.step()
        taken.append(1000 * (time.perf_counter() - started))
        held.append(engine.state_bytes if isinstance(engine, generation.TokenEngine) else 0)
    places = (10, min(900, len(taken) - 9))
    late = {str(place): round(statistics.median(taken[place - 8 : place + 8]), 2) for place in places}
    return {
        "tokens_per_s": rates,
        "ms_of_token": late,
        "bytes_of_state": {str(place): held[place] for place in places},
    }


class _Stream:
    """One person: a create request that streams; when tokens came."""

    def __init__(self, url: str, seed: int, tokens: int) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
        self.body = {
            "task": TASK,
            "inputs": {"prompt": PROMPT},
            "options": {"seed": seed, "max_new_tokens": tokens},
            "stream": True,
        }
        self.first_s, self.seconds, self.tokens = 0.0, 0.0, 0
        self.job: dict[str, Any] = {}

    def events(self) -> Iterator[tuple[str, Any]]:
        """(event, data) as they come."""
        self.connection.request("POST", "/api/v1/jobs", json.dumps(self.body), {"Content-Type": "application/json"})
        event = ""
        for raw in self.connection.getresponse():
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                yield event, json.loads(line[6:])

    def run(self) -> None:
        """Read to the end."""
        started = time.monotonic()
        for event, data in self.events():
            if event == "delta":
                self.first_s = self.first_s or time.monotonic() - started
                self.tokens = data["part"]["start"] + len(data["part"]["tokens"])
            elif event == "result":
                self.job = data
        self.seconds = time.monotonic() - started


def through(url: str) -> dict[str, Any]:
    """One stream alone and sixteen at once, five times each in turns, medians; and how long a stop takes."""
    _Stream(url, 1, 20).run()  # warms up
    alone: list[dict[str, float]] = []
    together: list[dict[str, float]] = []
    for turn in range(5):
        alone.append(_at_once(url, [turn]))
        together.append(_at_once(url, list(range(STREAMS))))
    one, many = _medians(alone), _medians(together)
    return {
        "alone": {"first_ms": one["first_p95_ms"], "tokens_per_s": one["tokens_per_s"]},
        "together": {"streams": STREAMS, **many, "gain": round(many["tokens_per_s"] / one["tokens_per_s"], 2)},
        "stop_ms": _stop(url),
    }


def _at_once(url: str, seeds: list[int]) -> dict[str, float]:
    """Streams of these seeds, begun together."""
    streams = [_Stream(url, seed, TOKENS) for seed in seeds]
    threads = [threading.Thread(target=stream.run) for stream in streams]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.monotonic() - started
    bad = [stream.job.get("error") for stream in streams if stream.job.get("status") != "succeeded"]
    if bad:
        raise SystemExit(f"A stream did not end well: {bad[0]}")
    first = sorted(stream.first_s for stream in streams)
    return {
        "first_p95_ms": 1000 * first[math.ceil(0.95 * len(first)) - 1],
        "each_tokens_per_s": statistics.median(stream.tokens / stream.seconds for stream in streams),
        "tokens_per_s": sum(len(stream.job["output"]["tokens"]) for stream in streams) / whole,
    }


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in found), 1) for name in found[0]}


def _stop(url: str) -> int:
    """From the request to stop until the text is there as it was kept, median of five."""
    taken = []
    for seed in range(5):
        stream = _Stream(url, seed, 1_000)
        other = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        address, asked = "", 0.0
        for event, data in stream.events():
            if event == "job":
                address = data["urls"]["cancel"]
            elif event == "delta" and not asked and data["part"]["start"] > 20:
                asked = time.monotonic()
                other.request("POST", address)
                other.getresponse().read()
            elif event == "result" and data["output"] and data["output"]["finish_reason"] == "cancelled":
                taken.append(time.monotonic() - asked)
    if not taken:
        raise SystemExit("No text could be stopped: all had ended before.")
    return round(1000 * statistics.median(taken))


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
