"""Photos: what they are by their first bytes, their limits, and decoding into an upright RGB picture.

Uploads are hostile until proven otherwise: the name and the declared type are never believed, width x height are
checked before a pixel is decoded, and what is shown to people is encoded anew, so no EXIF, no GPS, no second format
hidden in the file survives. `mlcore.media.decoder` runs all this in a process of its own.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from mlcore.errors import InvalidInput

MAX_BYTES = 20 << 20
MAX_PIXELS = 50_000_000
MIN_SIDE = 8  # pixels; below that there is nothing to see
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
ALLOWED = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def identify(head: bytes) -> str | None:
    """The format that a file's first 32 bytes declare, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:2] == b"BM":
        return "BMP"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return "AVIF"
        if head[8:12] in _HEIF_BRANDS:
            return "HEIF"
    return None


def check_head(head: bytes, field: str = "image") -> str:
    """The format of a file that starts with `head`; InvalidInput for what is no photo that we read."""
    if not head:
        raise InvalidInput(field, "The file is empty. Choose a photo.")
    found = identify(head)
    if found is None:
        start = head.lstrip()[:5].lower()
        kind = "an SVG or HTML text" if start[:1] == b"<" else "no photo that can be read"
        raise InvalidInput(field, f"This file is {kind}. Send {ALLOWED}.")
    return found


def read(path: Path, field: str = "image") -> Image.Image:
    """An upright RGB picture (first frame, transparency on white), or InvalidInput in words."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(field, f"The photo cannot be read: {error.strerror or 'missing'}.") from error
    if len(data) > MAX_BYTES:
        raise InvalidInput(field, f"The photo has {len(data) / 1e6:.0f} MB; at most {MAX_BYTES >> 20} MB are read.")
    form = check_head(data[:32], field)
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=[form]) as opened:
                _check_size(opened.width, opened.height, field)
                return _upright_rgb(opened)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InvalidInput(
            field, f"The photo has more than {MAX_PIXELS // 10**6} megapixels. Make it smaller."
        ) from error
    except InvalidInput:
        raise
    except MemoryError as error:
        raise InvalidInput(field, "The photo needs too much memory. Make it smaller.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError,
            OverflowError, RuntimeError, ZeroDivisionError) as error:  # fmt: skip
        # Pillow's readers raise whatever a broken file led them to
        raise InvalidInput(field, "The photo is damaged or cut off. Save it again and send it once more.") from error


def _check_size(width: int, height: int, field: str) -> None:
    if width * height > MAX_PIXELS:
        raise InvalidInput(
            field,
            f"The photo has {width:,} x {height:,} pixels; at most {MAX_PIXELS // 10**6} megapixels are read. "
            "Make it smaller.",
        )
    if min(width, height) < MIN_SIDE:
        raise InvalidInput(
            field, f"The photo has {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed."
        )


def _upright_rgb(opened: Image.Image) -> Image.Image:
    frame = next(iter(ImageSequence.Iterator(opened)))
    frame.load()
    image = ImageOps.exif_transpose(frame)
    if image.mode.startswith(("I", "F")):  # 16 and 32 bit: stretched to what the file uses
        values = np.asarray(image, dtype=np.float64)
        full = 65_535.0 if image.mode.startswith("I;16") else max(float(values.max(initial=0.0)), 1.0)
        image = Image.fromarray(np.clip(values / full * 255.0, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """(side, side, 3), squashed: the encoders were trained on squashed photos."""
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0), dtype=np.uint8)


def to_show(image: Image.Image, longest: int) -> bytes:
    """A WebP without any metadata, its longer side at most `longest` pixels."""
    shown = image.copy()
    shown.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()
