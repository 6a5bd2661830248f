"""Convolutional encoders: a photo becomes a grid of feature vectors that a decoder attends over.

EfficientNet-Lite (Tan & Le 2019, https://arxiv.org/abs/1905.11946; the Lite variant without squeeze-and-excitation and
with ReLU6). Batch norm is folded into the convolutions: fine-tuning runs with its statistics frozen, so the fold loses
nothing, and each photo passes through half as many layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

# kernel, stride, expansion, output channels of EfficientNet-Lite2's blocks
LITE2 = (
    *((3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (3, 1, 6, 24), (5, 2, 6, 48), (5, 1, 6, 48), (5, 1, 6, 48)),
    *((3, 2, 6, 88), (3, 1, 6, 88), (3, 1, 6, 88), (3, 1, 6, 88), (5, 1, 6, 120), (5, 1, 6, 120), (5, 1, 6, 120)),
    *((5, 1, 6, 120), (5, 2, 6, 208), (5, 1, 6, 208), (5, 1, 6, 208), (5, 1, 6, 208), (5, 1, 6, 208), (3, 1, 6, 352)),
)
TINY = ((3, 2, 1, 8), (3, 2, 2, 12), (3, 2, 2, 16))


@dataclass(frozen=True)
class Config:
    """Blocks of the encoder; the defaults are EfficientNet-Lite2 without its classifier."""

    blocks: tuple[tuple[int, int, int, int], ...] = LITE2
    stem_dim: int = 32
    feature_dim: int = 1280
    image_size: int = 224  # pixels of the square that a photo is squashed to
    mean: float = 127.0
    scale: float = 128.0


class HasEncoder(Protocol):
    """What a model's config says about its encoder."""

    @property
    def blocks(self) -> tuple[tuple[int, int, int, int], ...]: ...
    @property
    def stem_dim(self) -> int: ...
    @property
    def feature_dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...


class SameConv(nn.Module):
    """A convolution with TensorFlow's SAME padding: an odd pixel goes right and below."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.stride, self.groups = stride, groups
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride))."""
        kernel = self.weight.shape[-1]
        pads = [max((-(-size // self.stride) - 1) * self.stride + kernel - size, 0) for size in x.shape[2:]]
        if pads[0] % 2 == 0 and pads[1] % 2 == 0:
            padding = (pads[0] // 2, pads[1] // 2)
        else:
            x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
            padding = (0, 0)
        if self.groups > 1 and x.requires_grad and x.device.type == "cpu":
            # oneDNN's bfloat16 gradients of a 5 x 5 depthwise convolution take four to fourteen times float32's
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x.float(), self.weight, self.bias, self.stride, padding, groups=self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018, https://arxiv.org/abs/1801.04381)."""

    def __init__(self, in_dim: int, kernel: int, stride: int, expansion: int, out_dim: int) -> None:
        super().__init__()
        wide = in_dim * expansion
        self.expand = SameConv(in_dim, wide, 1) if expansion != 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, out_dim, 1)
        self.skip = stride == 1 and in_dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, D, H', W')."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        y: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.skip else y


class Encoder(nn.Module):
    """Photos as bytes to a grid of features."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = SameConv(3, config.stem_dim, 3, 2)
        blocks: list[nn.Module] = []
        width = config.stem_dim
        for kernel, stride, expansion, out_dim in config.blocks:
            blocks.append(Block(width, kernel, stride, expansion, out_dim))
            width = out_dim
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(width, config.feature_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S), uint8 or the same range as float -> (B, P, F), P places row by row."""
        x = (images.float() - self.config.mean) / self.config.scale
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        features: Tensor = F.relu6(self.head(x))  # (B, F, H, W)
        return features.flatten(2).transpose(1, 2)

    def split(self, blocks: int) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters up to and including the first `blocks` blocks, and those behind them."""
        early = [*self.stem.parameters(), *self.blocks[:blocks].parameters()]
        return early, [*self.blocks[blocks:].parameters(), *self.head.parameters()]


def encoder_of(config: HasEncoder) -> Encoder:
    """The encoder that a model's config describes; JSON makes lists of its tuples."""
    blocks: Any = tuple(tuple(block) for block in config.blocks)
    return Encoder(
        Config(blocks=blocks, stem_dim=config.stem_dim, feature_dim=config.feature_dim, image_size=config.image_size)
    )


def _folded(tensors: Mapping[str, Tensor], conv: str, norm: str, epsilon: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm folded in."""
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + epsilon).sqrt()
    weight = tensors[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale


def load_pretrained(path: Path, *, epsilon: float = 1e-3) -> Encoder:
    """EfficientNet-Lite2 from `efficientnet_lite2_*.safetensors`: convolutions and batch norms named as its blocks."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
        described: Sequence[Mapping[str, Any]] = json.loads(file.metadata()["blocks"])
    blocks = tuple((b["kernel"], b["stride"], b["expand"], b["cout"]) for b in described)
    encoder = Encoder(Config(blocks=blocks))
    state: dict[str, Tensor] = {}

    def put(name: str, conv: str, norm: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = _folded(tensors, conv, norm, epsilon)

    put("stem", "stem.conv", "stem.bn")
    put("head", "head.conv", "head.bn")
    for i, block in enumerate(blocks):
        parts = [("depthwise", "bn1"), ("project", "bn2"), *([("expand", "bn0")] if block[2] != 1 else [])]
        for part, norm in parts:
            put(f"blocks.{i}.{part}", f"blocks.{i}.{part}", f"blocks.{i}.{norm}")
    encoder.load_state_dict(state)
    return encoder
