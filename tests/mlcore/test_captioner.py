"""The CNN encoder and the captioner: shapes, folding, teacher forcing against steps, attention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mlcore.models import cnn
from mlcore.models.attention_captioner import Config, Model
from mlcore.training.captioning import SelfCritical, sample


@pytest.fixture
def model() -> Model:
    torch.manual_seed(1)
    small = {"stem_dim": 4, "feature_dim": 12, "embed_dim": 8, "hidden_dim": 16, "attention_dim": 8}
    return Model(Config(vocab_size=30, blocks=cnn.TINY, image_size=64, max_words=6, **small)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "stride", "kernel"), [(224, 2, 3), (7, 1, 5), (15, 2, 5), (8, 2, 3)])
def test_an_odd_pixel_of_padding_goes_right_and_below(size: int, stride: int, kernel: int) -> None:
    conv = cnn.SameConv(1, 1, kernel, stride)
    x = torch.randn(1, 1, size, size)
    out = -(-size // stride)
    pad = max((out - 1) * stride + kernel - size, 0)
    padded = F.pad(x, (pad // 2, pad - pad // 2) * 2)
    torch.testing.assert_close(conv(x), F.conv2d(padded, conv.weight, conv.bias, stride))


def test_batch_norm_is_folded_into_the_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(2)
    described = [{"kernel": 3, "stride": 2, "expand": 2, "cin": 32, "cout": 6}]
    shapes = {"stem.conv": (32, 3, 3, 3), "head.conv": (1280, 6, 1, 1), "blocks.0.expand": (64, 32, 1, 1)}
    shapes |= {"blocks.0.depthwise": (64, 1, 3, 3), "blocks.0.project": (6, 64, 1, 1)}
    norms = {"stem.conv": "stem.bn", "head.conv": "head.bn"}
    norms |= {f"blocks.0.{part}": f"blocks.0.bn{i}" for i, part in enumerate(("expand", "depthwise", "project"))}
    tensors = {f"{name}.weight": torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    for conv, norm in norms.items():
        width = shapes[conv][0]
        for part in ("weight", "running_var"):
            tensors[f"{norm}.{part}"] = torch.rand(width) + 0.5
        for part in ("bias", "running_mean"):
            tensors[f"{norm}.{part}"] = torch.randn(width) * 0.1
    save_file(tensors, tmp_path / "x.safetensors", metadata={"blocks": json.dumps(described)})
    encoder = cnn.load_pretrained(tmp_path / "x.safetensors").eval()

    def layer(x: torch.Tensor, conv: str, stride: int, groups: int = 1) -> torch.Tensor:
        kernel, norm = shapes[conv][-1], norms[conv]
        pad = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
        x = F.conv2d(F.pad(x, (pad // 2, pad - pad // 2) * 2), tensors[f"{conv}.weight"], stride=stride, groups=groups)
        parts = (tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    x = F.relu6(layer((images.float() - 127) / 128, "stem.conv", 2))
    x = F.relu6(layer(F.relu6(layer(x, "blocks.0.expand", 1)), "blocks.0.depthwise", 2, groups=64))
    expected = F.relu6(layer(layer(x, "blocks.0.project", 1), "head.conv", 1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-4)


def test_step_by_step_gives_what_teacher_forcing_gives(model: Model) -> None:
    features = model.encoder(torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8))
    tokens = torch.randint(4, 30, (3, 5))
    tokens[:, 0] = 2
    found, attention = model.decoder(features, tokens)
    expected = model.decoder.logits(found).log_softmax(dim=-1)
    assert attention.shape == (3, 5, features.shape[1])
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(3, 5))
    state = model.decoder.start(features)
    for t in range(5):
        log_p, state = model.decoder.step(tokens[:, t], state)
        torch.testing.assert_close(log_p, expected[:, t], rtol=1e-4, atol=1e-5)


def test_without_a_photo_the_decoder_is_a_language_model(model: Model) -> None:
    found, attention = model.decoder(None, torch.tensor([[2, 5, 6]]))
    assert model.decoder.logits(found).shape == (1, 3, 30)
    assert attention.shape == (1, 3, 0)


def test_candidates_differ_and_attention_covers_each_word(model: Model) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for answer in model.predict({"images": images}):
        assert len({tuple(tokens) for tokens, _ in answer["candidates"]}) == 3
        assert len(answer["attention"]) == len(answer["candidates"][0][0])


class Ids:
    """Stands for a vocabulary whose words are their own numbers."""

    def decode(self, tokens: list[int]) -> list[int]:
        return tokens


def test_rewards_teach_the_policy_that_is_drawn_from(model: Model) -> None:
    def reward(_: int, words: Any) -> float:
        return float(7 in words)

    batch = {"features": torch.randn(4, 4, 12), "photo": torch.arange(4)}
    loss = SelfCritical(reward, Ids(), each=8, longest=5)  # type: ignore[arg-type]
    loss(model.decoder, batch).backward()
    assert model.decoder.bias.grad is not None
    assert model.decoder.bias.grad[:3].abs().max() == 0, "what is never drawn gains nothing"
    assert model.decoder.bias.grad[3:].abs().max() > 0
    optimizer = torch.optim.Adam(model.decoder.parameters(), lr=1e-2)

    def rate() -> float:
        tokens = sample(model.decoder, batch["features"], each=50, longest=5)
        return float((tokens == 7).any(dim=1).float().mean())

    before = rate()
    for _ in range(60):
        optimizer.zero_grad()
        loss(model.decoder, batch).backward()
        optimizer.step()
    assert before < 0.5 < 0.9 < rate()
