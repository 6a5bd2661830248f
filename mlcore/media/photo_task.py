"""What tasks that look at one photo share: the input, its way to the encoder's square, demo scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlcore.fields import Field
from mlcore.media import decoder
from mlcore.media.fields import Image
from mlcore.task import JSON, Example, Item, Task

_SCENES = Path(__file__).resolve().parent.parent / "examples" / "scenes"
_COST = 64  # every photo costs the same; batches are capped at so many of these


def _scene(title: str, name: str) -> Example:
    return Example(title, {"image": str(_SCENES / f"{name}.webp")})


class PhotoTask(Task):
    """A task with one photo as its input; its assets know the encoder's `image_size`."""

    menu: ClassVar[str] = "Photos"
    page: ClassVar[str] = "photos"
    default_variant: ClassVar[str] = "en"
    max_batch_size: ClassVar[int] = 32
    inputs: ClassVar[Mapping[str, Field]] = {
        "image": Image(title="Photo", help="JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC; 20 MB, 50 megapixels."),
    }
    offers_examples: ClassVar[bool] = False  # the scenes are drawings, which the shipped models do not read right
    examples: ClassVar[Sequence[Example]] = [
        _scene("A beach", "beach"),
        _scene("A dog", "field"),
        _scene("A street", "street"),
        _scene("Snow", "snow"),
        _scene("A table", "table"),
        _scene("A park", "park"),
    ]

    def estimate(self, inputs: JSON) -> int:
        """Every photo costs the same."""
        return _COST

    def headline(self, inputs: JSON) -> str:
        """A photo has no words of its own."""
        return "A photo"

    def preprocess(self, inputs: JSON, options: JSON, assets: Any) -> Item:
        """Decoded in the decoder's own process and squashed to the square that the encoder was trained on."""
        pixels = decoder.shared().square(Path(inputs["image"]), assets.image_size).transpose(2, 0, 1)
        return Item({"images": pixels}, options, None, _COST)
