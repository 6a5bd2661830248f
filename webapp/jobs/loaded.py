"""The models that a worker holds in memory: loaded on first use or before it, let go when unused."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
import time

from mlcore.bundle import Bundle
from mlcore.errors import BundleError
from mlcore.predictor import Predictor, self_test
from webapp.jobs.heartbeat import Heartbeat
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

logger = logging.getLogger(__name__)
MAX_LOADED = 6  # versions in memory; the one unused for longest goes first


class Loaded:
    """Predictors by the key of their version; the heartbeat's row names them.

    Two threads use it: one works, the caretaker loads and unloads beside it.
    """

    def __init__(self, heartbeat: Heartbeat, *, device: str) -> None:
        self.heartbeat, self.device = heartbeat, device
        self.predictors: dict[int, Predictor] = {}
        self.used: dict[int, float] = {}  # when each was asked last, monotonic
        self._changing = threading.Lock()

    def get(self, version: ModelVersion) -> Predictor:
        """The predictor of a version; loaded and self-tested on first use, BundleError when it cannot be."""
        self.used[version.pk] = time.monotonic()
        # what is loaded is taken without the lock: while the caretaker loads another version, no job waits for it
        return self.predictors.get(version.pk) or self.load(version)

    def load(self, version: ModelVersion) -> Predictor:
        """As `get`, not counted as use."""
        with self._changing:
            return self.predictors.get(version.pk) or self._load(version)

    def check(self, version: ModelVersion) -> Predictor:
        """As `get`, but its files are read and its examples asked also where it is in memory; BundleError."""
        predictor = self.predictors.get(version.pk)
        if predictor is None:
            return self.get(version)
        Bundle.open(registry.bundle_path(version))
        self_test(predictor)
        return predictor

    def unload(self, pk: int) -> None:
        """Let go of a version, and of its memory once nothing runs on it."""
        with self._changing:
            if self.predictors.pop(pk, None) is None:
                return
            self._tell()
        give_memory_back()

    def tidy(self) -> None:
        """Return freed memory to the operating system, without stopping anybody for long."""
        trim()

    def unused_s(self, pk: int) -> float:
        """Seconds since a version was asked last."""
        now = time.monotonic()
        return now - self.used.get(pk, now)

    def _load(self, version: ModelVersion) -> Predictor:
        self.heartbeat.row.loading = str(version)
        self.heartbeat.write()
        started = time.monotonic()
        try:
            predictor = Predictor(Bundle.open(registry.bundle_path(version)), self.device)
            self_test(predictor)
        except BundleError:
            raise
        except Exception as error:  # out of memory, files that lie: whatever it is, this version cannot answer
            logger.exception("%s cannot be loaded", version)
            raise BundleError(f"{version} cannot be loaded: {type(error).__name__}: {error}") from error
        finally:
            self.heartbeat.row.loading = ""
        logger.info("%s loaded in %.1f s on %s", version, time.monotonic() - started, predictor.device)
        self.used.setdefault(version.pk, time.monotonic())
        self.predictors[version.pk] = predictor
        while len(self.predictors) > MAX_LOADED:
            del self.predictors[min(self.predictors.keys() - {version.pk}, key=lambda pk: self.used.get(pk, 0.0))]
        self._tell()
        return predictor

    def _tell(self) -> None:
        self.heartbeat.row.loaded = [predictor.bundle.label for predictor in self.predictors.values()]
        self.heartbeat.write()


def give_memory_back() -> None:
    """Free what nobody holds any more, and return it to the operating system."""
    gc.collect()
    trim()


def trim() -> None:
    """Return what was freed to the operating system; glibc keeps it otherwise."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another libc
            return
