"""A long-lived process that decodes photos, so that a hostile one can take down nothing but this process.

It has a limit of memory and of time for each file; when it dies or hangs it is started again (a fresh process for each
photo would cost 0.3 s). Requests and answers are lines of JSON and raw bytes over pipes.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidInput

MEMORY_BYTES = 1536 << 20  # address space: 50 megapixels as RGBA, a float copy of some, and the interpreter
TIME_S = 20.0


class Decoder:
    """Hands files to the process; one request at a time, safe to share between threads."""

    def __init__(self, *, time_s: float = TIME_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self.time_s, self.memory_bytes = time_s, memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def square(self, path: Path, side: int, field: str = "image") -> NDArray[np.uint8]:
        """The photo at `path` squashed to (side, side, 3); InvalidInput in words when it cannot be."""
        data = self._ask({"what": "square", "path": str(path.absolute()), "side": side, "field": field}, field)
        return np.frombuffer(data, dtype=np.uint8).reshape(side, side, 3)

    def to_show(self, path: Path, longest: int, field: str = "image") -> bytes:
        """The photo as WebP without metadata, at most `longest` pixels on its longer side."""
        return self._ask({"what": "to_show", "path": str(path.absolute()), "longest": longest, "field": field}, field)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _ask(self, request: dict[str, Any], field: str) -> bytes:
        with self._lock:
            process = self._running()
            assert process.stdin and process.stdout
            deadline = time.monotonic() + self.time_s
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                answer = json.loads(_read_line(process.stdout, deadline))
                data = _read_exactly(process.stdout, answer.get("bytes", 0), deadline)
            except TimeoutError as error:
                self._kill()
                raise InvalidInput(
                    field, f"The photo took longer than {self.time_s:g} s to decode. Save it again, smaller."
                ) from error
            except (OSError, EOFError, ValueError) as error:
                self._kill()
                raise InvalidInput(
                    field, "The photo could not be decoded. Save it again and send it once more."
                ) from error
        if "message" in answer:
            raise InvalidInput(answer["field"], answer["message"])
        return data

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._kill()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlcore.media.decoder", str(self.memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).resolve().parent.parent.parent,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C is for the parent, which ends this one
            )
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def _read_some(pipe: IO[bytes], size: int, deadline: float) -> bytes:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
    found = os.read(pipe.fileno(), size)
    if not found:
        raise EOFError
    return found


def _read_line(pipe: IO[bytes], deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += _read_some(pipe, 1, deadline)
    return line


def _read_exactly(pipe: IO[bytes], size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += _read_some(pipe, size - len(data), deadline)
    return bytes(data)


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    from mlcore.media import image

    try:
        opened = image.read(Path(request["path"]), request["field"])
        if request["what"] == "square":
            data = image.square(opened, request["side"]).tobytes()
        else:
            data = image.to_show(opened, request["longest"])
    except InvalidInput as error:
        return {"field": error.field, "message": error.message}, b""
    except MemoryError:
        return {"field": request["field"], "message": "The photo needs too much memory. Make it smaller."}, b""
    return {"bytes": len(data)}, data


def serve(memory_bytes: int) -> None:
    """Answer requests until the other end of the pipe is closed."""
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for line in sys.stdin.buffer:
        answer, data = _answer(json.loads(line))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + data)
        sys.stdout.buffer.flush()


_shared: Decoder | None = None


def shared() -> Decoder:
    """This process's decoder, started on first use and ended with it."""
    global _shared
    if _shared is None:
        _shared = Decoder()
        atexit.register(_shared.close)
    return _shared


if __name__ == "__main__":
    serve(int(sys.argv[1]))
