"""Users in a closed loop over HTTP, in a process of its own: `python -m benchmarks.load URL TASK USERS SECONDS WORDS`.

Each user posts a text with `Prefer: wait=30`, reads the answer, and posts the next. Niced, so that it takes what the
product leaves; its own CPU time is part of the report.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from benchmarks.texts import make_texts


def _when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _user(address: str, task: str, texts: list[str], start_at: float, end_at: float, found: list[Any]) -> None:
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Content-Type": "application/json", "Prefer": "wait=30"}
    number = 0
    while time.monotonic() < end_at:
        body = json.dumps({"task": task, "inputs": {"text": texts[number % len(texts)]}})
        number += 1
        started = time.monotonic()
        try:
            connection.request("POST", "/api/v1/jobs", body, headers)
            answer = connection.getresponse()
            job = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            found.append(None)
            connection.close()
            continue
        seconds = time.monotonic() - started
        if time.monotonic() < start_at:
            continue  # warming up
        if answer.status != 200 or job["status"] != "succeeded":
            found.append(None)
            continue
        stored = _when(job["finished_at"]) - _when(job["created_at"])
        found.append((seconds, stored - job["model_time_s"], time.monotonic(), started >= start_at))
    connection.close()


def run(url: str, task: str, users: int, seconds: float, words: int) -> dict[str, Any]:
    """Latencies and overheads (s) of the jobs that were sent after a warm-up of a quarter of the time.

    Jobs a second are those that ended after it, whenever they were sent.
    """
    begin = time.monotonic()
    start_at, end_at = begin + seconds / 4, begin + seconds
    found: list[Any] = []
    address = urlsplit(url).netloc
    threads = [
        threading.Thread(
            target=_user, args=(address, task, make_texts(50, words, seed=user), start_at, end_at, found), daemon=True
        )
        for user in range(users)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [entry for entry in found if entry]
    in_time = sum(1 for entry in done if entry[2] <= end_at)
    return {
        "latencies": [entry[0] for entry in done if entry[3]],
        "overheads": [entry[1] for entry in done if entry[3]],
        "failed": len(found) - len(done),
        "per_s": in_time / (end_at - start_at),
        "cpu_s": time.process_time(),
        "seconds": time.monotonic() - begin,
    }


if __name__ == "__main__":
    os.nice(10)
    json.dump(run(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:6])), sys.stdout)
