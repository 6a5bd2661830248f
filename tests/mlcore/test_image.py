"""Photos as they come: every format, every kind of damage; each is right or refused in words."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlcore.errors import InvalidInput
from mlcore.media import image
from mlcore.media.decoder import Decoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    """Left half red, right half blue, in any mode."""
    made = Image.new("RGB", size, (220, 30, 30))
    made.paste((30, 30, 220), (size[0] // 2, 0, *size))
    return made.convert(mode)


def encoded(form: str, made: Image.Image | None = None, **options: Any) -> bytes:
    if form == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    (made or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def decode(decoder: Decoder, tmp_path: Path, data: bytes, side: int = 16) -> np.ndarray[Any, Any]:
    path = tmp_path / "photo"
    path.write_bytes(data)
    return decoder.square(path, side)


def is_red_then_blue(found: np.ndarray[Any, Any]) -> bool:
    left, right = found[:, 2].mean(axis=0), found[:, -3].mean(axis=0)
    return bool(left[0] > 180 and left[2] < 90 and right[2] > 180 and right[0] < 90)


@pytest.mark.parametrize("form", image.FORMATS)
def test_every_format_is_read(form: str, decoder: Decoder, tmp_path: Path) -> None:
    data = encoded(form)
    assert image.identify(data[:32]) == form
    assert is_red_then_blue(decode(decoder, tmp_path, data))


def _png_16_bit() -> bytes:
    values = np.linspace(0, 65_535, 40 * 24).reshape(24, 40).astype(np.uint16)
    return encoded("PNG", Image.fromarray(values))


def test_a_photo_is_named_from_where_its_caller_runs(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), (0, 0, 255)).save("here.png")
    assert (decoder.square(Path("here.png"), 8) == (0, 0, 255)).all()


def test_sixteen_bits_are_scaled_not_cut(decoder: Decoder, tmp_path: Path) -> None:
    found = decode(decoder, tmp_path, _png_16_bit())
    assert found[0].mean() < 30 and found[-1].mean() > 225
    assert 100 < found[8].mean() < 155


@pytest.mark.parametrize("mode", ["CMYK", "L", "1"])
def test_other_colour_spaces(mode: str, decoder: Decoder, tmp_path: Path) -> None:
    found = decode(decoder, tmp_path, encoded("TIFF", picture(mode)))
    if mode == "CMYK":
        assert is_red_then_blue(found)
    else:
        assert found[8, 2].mean() > found[8, -3].mean() + 20, "red is lighter than blue"


def test_transparency_lies_on_white(decoder: Decoder, tmp_path: Path) -> None:
    clear = Image.new("RGBA", (40, 24), (255, 0, 0, 0))
    assert decode(decoder, tmp_path, encoded("PNG", clear)).min() > 250
    palette = Image.new("P", (40, 24), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert decode(decoder, tmp_path, encoded("PNG", palette, transparency=0)).min() > 250


def test_the_first_frame_of_an_animation(decoder: Decoder, tmp_path: Path) -> None:
    second = Image.new("RGB", (40, 24), "green")
    for form in ("GIF", "WEBP", "PNG"):
        data = encoded(form, save_all=True, append_images=[second])
        assert is_red_then_blue(decode(decoder, tmp_path, data))


def test_a_turned_photo_is_set_upright_and_tells_no_place(decoder: Decoder, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    exif.get_ifd(0x8825)[1] = "N"
    lying = picture().rotate(90, expand=True)
    data = encoded("JPEG", lying, exif=exif, quality=95)
    assert is_red_then_blue(decode(decoder, tmp_path, data))
    shown = decoder.to_show(tmp_path / "photo", 20)
    with Image.open(io.BytesIO(shown)) as reopened:
        assert reopened.format == "WEBP"
        assert reopened.size == (20, 12)
        assert not reopened.getexif()


def test_what_is_shown_is_encoded_anew(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded("PNG") + b"<html><script>alert(1)</script></html>")
    assert is_red_then_blue(decoder.square(path, 16))
    assert b"script" not in decoder.to_show(path, 100)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_bomb(side: int, rows: int | None = None) -> bytes:
    """A black square of few bytes and many pixels, of which `rows` rows are there."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = zlib.compress(b"\0" * (side * 3 + 1) * (side if rows is None else rows), 9)
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello, I am a text", "no photo"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!doctype html><p>hi", "SVG or HTML"),
        (b"%PDF-1.7", "no photo"),
        (encoded("PNG", Image.new("RGB", (1, 1))), "1 x 1"),
        (encoded("JPEG")[:200], "damaged"),
        (encoded("PNG")[:60], "damaged"),
        (encoded("WEBP")[:40], "damaged"),
        (_png_bomb(20_000, rows=1), "megapixels"),
        (_png_bomb(8_000), "megapixels"),
        (b"\xff\xd8\xff" + b"\0" * 400, "damaged"),
        (b"GIF89a" + b"\xff" * 100, "damaged"),
        (b"BM" + b"\xff" * 100, "damaged"),
        (b"II*\0" + b"\xff" * 100, "damaged"),
        (b"\0\0\0\x20ftypheic" + b"\0" * 100, "damaged"),
        (b"\0\0\0\x20ftypavif" + b"\0" * 100, "damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * (image.MAX_BYTES), "MB"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data: bytes, said: str, decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(decoder, tmp_path, data)
    assert refused.value.field == "image"
    assert said in refused.value.message
    assert is_red_then_blue(decode(decoder, tmp_path, encoded("PNG")))  # and the next one is read


def test_a_missing_file_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        decoder.square(tmp_path / "nothing", 16)


def test_two_hundred_damaged_files_crash_nothing(decoder: Decoder, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    sources = [encoded(form) for form in image.FORMATS]
    read = 0
    for number in range(200):
        data = bytearray(sources[number % len(sources)])
        for place in generator.integers(0, len(data), size=int(generator.integers(1, 12))):
            data[place] ^= int(generator.integers(1, 256))
        try:
            found = decode(decoder, tmp_path, bytes(data))
        except InvalidInput as error:
            assert error.message.endswith(".")
        else:
            assert found.shape == (16, 16, 3)
            read += 1
    assert 0 < read < 200


def test_a_process_that_hangs_or_dies_is_started_again(tmp_path: Path) -> None:
    slow = Decoder(time_s=0.0)
    path = tmp_path / "photo"
    path.write_bytes(encoded("PNG"))
    with pytest.raises(InvalidInput, match="took longer"):
        slow.square(path, 16)
    slow.time_s = 20.0
    assert is_red_then_blue(slow.square(path, 16))
    assert slow._process
    slow._process.kill()
    slow._process.wait(10)
    assert is_red_then_blue(slow.square(path, 16))
    slow.close()


def test_memory_is_limited(tmp_path: Path) -> None:
    small = Decoder(memory_bytes=400 << 20)
    path = tmp_path / "photo"
    path.write_bytes(_png_bomb(7_000))  # 49 megapixels: allowed, but too much for this process
    with pytest.raises(InvalidInput):
        small.square(path, 16)
    path.write_bytes(encoded("PNG"))
    assert is_red_then_blue(small.square(path, 16))
    small.close()
