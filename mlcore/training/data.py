"""Reading the data sets, and batches of few distinct shapes."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPENERS = {".xz": lzma.open, ".gz": gzip.open}


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file, plain or compressed (.xz, .gz), without their line ends."""
    opener: Any = _OPENERS.get(path.suffix, open)
    with opener(path, "rb") as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def read_table(path: Path) -> Iterator[list[str]]:
    """Rows of a TAB separated file without quoting or header."""
    yield from csv.reader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)


def padded_length(length: int) -> int:
    """The next of a few rungs: multiples of 4 to 32, of 16 to 128, of 64 above.

    Kernels are compiled for each (rows, steps), so a few hundred distinct shapes cost more than padding.
    """
    step = 4 if length <= 32 else 16 if length <= 128 else 64
    return -(-length // step) * step


def bucket_batches(
    lengths: Sequence[int],
    *,
    tokens_per_batch: int,
    max_rows: int,
    generator: np.random.Generator,
    neighbours: Sequence[int] | None = None,
) -> list[NDArray[np.int64]]:
    """Indices of items, batched by like padded length and in random order.

    Each batch holds about `tokens_per_batch` = rows x steps, rows a multiple of 8 where there are so many. Of one
    padded length, items whose `neighbours` values are close share a batch; without them chance decides.
    """
    rungs = np.array([padded_length(length) for length in lengths])
    batches: list[NDArray[np.int64]] = []
    left_over: list[NDArray[np.int64]] = []
    for rung in np.unique(rungs):
        members = generator.permutation(np.flatnonzero(rungs == rung))
        if neighbours is not None:
            members = members[np.argsort(np.asarray(neighbours)[members], kind="stable")]
        members = np.concatenate([*left_over, members])
        rows = int(max(1, min(max_rows, tokens_per_batch // rung)))
        rows = rows - rows % 8 if rows >= 8 else rows
        full = len(members) - len(members) % rows
        batches += np.split(members[:full], full // rows) if full else []
        left_over = [members[full:]]  # shorter items may ride with the next rung
    if left_over and len(left_over[0]):
        batches.append(left_over[0])
    order = generator.permutation(len(batches))
    return [batches[i] for i in order]
