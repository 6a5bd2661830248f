"""torchvision's transforms load beside any torch, and the stand-in for nms is one."""

from __future__ import annotations

import torch

from mlcore.training.vision import _nms, augmentation


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
