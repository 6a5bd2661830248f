"""torchvision's transforms, also where its compiled operators do not load; features of a frozen encoder.

torchvision wheels built for CUDA beside a CPU torch lack `torchvision::nms`, and then even the transforms cannot be
imported. Defining the two operators that the import names is enough; nms gets a real kernel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, library

from mlcore.errors import InvalidInput
from mlcore.models import cnn
from mlcore.models.cnn import Encoder
from mlcore.training.photos import FeatureCache, Photo
from mlcore.training.process import has_fast_bfloat16


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes (N, 4: xmin ymin xmax ymax) that no better one overlaps by more, the best first."""
    order = scores.argsort(descending=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        order = order[shared / (areas[best] + areas[order] - shared) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


_library: Any = None  # kept alive: a library that is collected takes its operators along


def _complete_torchvision() -> None:
    global _library
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _library = library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold, int scale, int zero_point) -> Tensor")
        _library.impl("nms", _nms, "CPU")


def transforms() -> Any:
    """The module torchvision.transforms.v2."""
    _complete_torchvision()
    from torchvision.transforms import v2

    return v2


def augmentation(side: int) -> Any:
    """What a squashed photo (3, S, S; uint8) goes through in training: a crop, a mirror image, other light."""
    v2 = transforms()
    return v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=(0.6, 1.0), ratio=(0.85, 1.18), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.02),
        ]
    )


def encoder_features(
    folder: Path,
    encoder: Encoder,
    photos: Sequence[Photo],
    reduce: Callable[[Tensor], Tensor] | None = None,
    *,
    augmented: int = 0,
) -> NDArray[np.float16]:
    """Features of the encoder as it is now, kept under `folder`.

    (N, 2 + augmented, P, F), or (N, 2 + augmented, ...) of what `reduce` makes of features (B, P, F): of the photos, of
    their mirror images, and of so many copies that `augmentation` changed, always in the same way.
    """
    digest = hashlib.sha256(f"{getattr(reduce, '__name__', '')}{augmented or ''}".encode())
    for value in encoder.state_dict().values():
        digest.update(value.numpy().tobytes())
    side = encoder.config.image_size

    def encode(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
            features = encoder(torch.from_numpy(pixels)).float()
            return (reduce(features) if reduce else features).numpy()  # type: ignore[no-any-return]

    def changed(pixels: NDArray[np.uint8], copy: int) -> NDArray[np.uint8]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(pixels[:, :, ::16, ::16].sum()) + copy)
            images = [augment(image) for image in torch.from_numpy(pixels)]
        return torch.stack(images).numpy()  # type: ignore[no-any-return]

    cache = FeatureCache(folder / "features")
    augment: Any = augmentation(side) if augmented else None
    return cache.load(photos, side, encode, digest.hexdigest(), [partial(changed, copy=i) for i in range(augmented)])


def start_encoder(encoder: Encoder, data: Path) -> None:
    """Fill an EfficientNet-Lite2 with its ImageNet weights; any other stays as it is."""
    if tuple(encoder.config.blocks) != cnn.LITE2:
        return
    found = sorted((data / "pretrained").glob("efficientnet_lite2_*.safetensors"))
    if not found:
        raise InvalidInput("data", f"{data}/pretrained/efficientnet_lite2_*.safetensors is missing.")
    encoder.load_state_dict(cnn.load_pretrained(found[0]).state_dict())


def continue_encoder(encoder: Encoder, weights: Path) -> None:
    """Fill an encoder with that of a bundle's weights, trained here on another task."""
    prefix = "encoder."
    with safe_open(weights, "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
        encoder.load_state_dict({name.removeprefix(prefix): file.get_tensor(name).float() for name in names})
