"""torchvision's transforms load beside any torch, and the stand-in for nms is one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlcore.models.cnn import TINY, Config, Encoder, SameConv
from mlcore.training.photos import Photo
from mlcore.training.vision import _nms, augmentation, encoder_features


def test_a_photo_keeps_its_shape_and_range() -> None:
    torch.manual_seed(1)
    photo = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8)
    found = augmentation(48)(photo)
    assert found.shape == photo.shape
    assert found.dtype == torch.uint8
    assert not torch.equal(found, photo)


def test_overlapping_boxes_are_dropped() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 2, 2]], dtype=torch.float32)
    scores = torch.tensor([0.8, 0.9, 0.7, 0.1])
    assert _nms(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert _nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_augmented_copies_have_features_of_their_own_and_always_the_same(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(256, size=(40, 40, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    photos = [Photo("one", buffer.getvalue()), Photo("two", buffer.getvalue())]
    torch.manual_seed(1)
    encoder = Encoder(Config(blocks=TINY, stem_dim=4, feature_dim=8, image_size=32)).eval()
    plain = encoder_features(tmp_path / "a", encoder, photos)
    state = torch.get_rng_state()
    found = encoder_features(tmp_path / "a", encoder, photos, augmented=2)
    assert (torch.get_rng_state() == state).all(), "a run's own chance is left as it was"
    assert plain.shape[1] == 2
    assert found.shape == (2, 4, *plain.shape[2:])
    assert (found[:, :2] == plain).all()
    assert not (found[:, 2] == found[:, 3]).all()
    assert (encoder_features(tmp_path / "b", encoder, photos, augmented=2) == found).all()


def test_a_depthwise_convolution_learns_in_float32() -> None:
    """oneDNN's bfloat16 gradients of it are an order of magnitude slower."""
    layer = SameConv(3, 3, 5, groups=3)
    x = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.requires_grad_()).dtype == torch.float32
        assert layer(x.detach()).dtype == torch.bfloat16
