"""Photos a second of the two photo models, by part; and a person's wait for one photo through the whole stack.

`python -m benchmarks.photos` prints the first as JSON; `through(product)` measures the second.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.timing import median

TASKS = ("image-captioning", "image-tagging")
SIDE = (1600, 1200)  # pixels: what a phone sends, made smaller by a messenger


def make_photo(seed: int) -> bytes:
    """A JPEG of about 300 kB with colour, edges and grain; no two alike."""
    generator = random.Random(seed)
    small = Image.frombytes("RGB", (40, 30), generator.randbytes(40 * 30 * 3))
    grain = Image.frombytes("L", SIDE, generator.randbytes(SIDE[0] * SIDE[1])).convert("RGB")
    picture = Image.blend(small.resize(SIDE, Image.Resampling.BICUBIC), grain, 0.06)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def measure(*, budget_s: float = 3.0) -> dict[str, Any]:
    """Photos a second by task, part and batch size."""
    import torch

    from mlcore.__main__ import find_bundle
    from mlcore.media import decoder
    from mlcore.predictor import Predictor

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="unroll-bench-") as folder:
        paths = [Path(folder) / f"{i}.jpg" for i in range(32)]
        for i, path in enumerate(paths):
            path.write_bytes(make_photo(i))
        seconds = median(lambda: decoder.shared().square(paths[0], 224), budget_s)
        found["decode image"] = {"photo_bytes": paths[0].stat().st_size, "per_s": round(1 / seconds, 1)}
        for name in TASKS:
            predictor = Predictor(find_bundle(name))
            items = [predictor.prepare({"image": str(path)}) for path in paths]
            rows: dict[str, float] = {}
            for size in (1, 8, 32):
                images = torch.stack([torch.from_numpy(item.features["images"].copy()) for item in items[:size]])

                def encode(model: Any = predictor.model, batch: torch.Tensor = images) -> None:
                    with torch.inference_mode():
                        model.encoder(batch)

                def answer(p: Predictor = predictor, batch: Any = items[:size]) -> None:
                    p.forward(batch)

                encoder_s, whole_s = median(encode, budget_s), median(answer, budget_s)
                rows[f"encoder, batch {size}"] = round(size / encoder_s, 1)
                rows[f"decoder, batch {size}"] = round(size / max(whole_s - encoder_s, 1e-9), 1)
                rows[f"model, batch {size}"] = round(size / whole_s, 1)
            found[name] = rows
    return found


def through(url: str, *, photos: int = 20) -> dict[str, Any]:
    """One user, one photo after another: upload, caption and tags, both answers waited for; ms."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(path: str, body: bytes, headers: dict[str, str]) -> Any:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return json.loads(answer.read())

    taken: dict[str, list[float]] = {name: [] for name in (*TASKS, "both")}
    for number in range(photos + 3):
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x.jpg"\r\n\r\n'.encode()
        body = head + make_photo(number) + f"\r\n--{boundary}--\r\n".encode()
        begun = time.monotonic()
        upload = post("/api/v1/uploads", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        sent = time.monotonic() - begun
        seconds = [sent]
        for name in TASKS:
            started = time.monotonic()
            request = json.dumps({"task": name, "inputs": {"image": upload["id"]}}).encode()
            job = post("/api/v1/jobs", request, {"Content-Type": "application/json", "Prefer": "wait=30"})
            if job["status"] != "succeeded":
                raise SystemExit(f"A photo was not answered: {job['error']}")
            seconds.append(time.monotonic() - started)
            if number >= 3:  # the first ones warm up
                taken[name].append(sent + seconds[-1])
        if number >= 3:
            taken["both"].append(sum(seconds))
    return {
        name: {
            "p50": round(1000 * statistics.median(values)),
            "p95": round(1000 * statistics.quantiles(values, n=20, method="inclusive")[18]),
        }
        for name, values in taken.items()
    }


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
