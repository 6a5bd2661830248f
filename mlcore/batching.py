"""collate(): items of different lengths to one padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]


def collate(features: Sequence[Mapping[str, Any]], *, pad_id: int = 0, pad_to: int = 0) -> Batch:
    """Stack the arrays of `features` by name; the first axis of each may differ and is padded with `pad_id`, to
    `pad_to` steps at least (training pads to a few fixed lengths).

    Returns (B, T, ...) tensors beside `lengths` (B,), taken from the first array. Integers become
    int64 (pixels stay uint8), floats float32.
    """
    batch: Batch = {}
    for name in features[0]:
        arrays = [np.asarray(feature[name]) for feature in features]
        longest = max(pad_to, *(len(array) for array in arrays))
        dtype = _dtype(arrays[0].dtype)
        padded = np.full((len(arrays), longest, *arrays[0].shape[1:]), pad_id, dtype=dtype)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
        batch[name] = torch.from_numpy(padded)
        batch.setdefault("lengths", torch.tensor([len(array) for array in arrays]))
    return batch


def _dtype(given: np.dtype[Any]) -> type[np.generic]:
    if given == np.uint8:
        return np.uint8
    return np.int64 if np.issubdtype(given, np.integer) else np.float32


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on another device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
