"""Draws the six scenes that image bundles test themselves with: `python -m mlcore.examples.render_scenes`.

They are ours, so they may be shipped; no training photo may.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).resolve().parent / "scenes"
SIZE = (320, 240)
Draw = ImageDraw.ImageDraw


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int], height: int = SIZE[1]) -> Image.Image:
    rows = np.linspace(top, bottom, height)[:, None, :].repeat(SIZE[0], axis=1)
    return Image.fromarray(rows.astype(np.uint8))


def _noise(image: Image.Image, strength: float, seed: int) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    grain = np.random.default_rng(seed).normal(0, strength, values.shape[:2])[..., None]
    return Image.fromarray(np.clip(values + grain, 0, 255).astype(np.uint8))


def beach() -> Image.Image:
    """Sky, sea, sand and a sun."""
    image = _gradient((90, 160, 230), (200, 225, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 110, 320, 170), fill=(30, 110, 160))
    for y in range(115, 170, 9):
        draw.line([(x, y + (x // 12 % 2) * 2) for x in range(0, 321, 12)], fill=(120, 180, 210))
    draw.rectangle((0, 168, 320, 240), fill=(222, 200, 150))
    draw.ellipse((240, 20, 280, 60), fill=(255, 240, 180))
    return image


def field() -> Image.Image:
    """A brown dog on grass."""
    image = _gradient((150, 200, 240), (220, 235, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 100, 320, 240), fill=(80, 150, 60))
    brown, dark = (130, 85, 45), (95, 60, 30)
    draw.ellipse((110, 120, 210, 170), fill=brown)
    draw.ellipse((190, 95, 240, 140), fill=brown)
    draw.polygon([(196, 102), (190, 80), (212, 98)], fill=dark)
    draw.ellipse((222, 118, 248, 134), fill=dark)
    for x in (122, 140, 180, 196):
        draw.rectangle((x, 160, x + 10, 200), fill=brown)
    draw.line([(112, 135), (85, 110)], fill=brown, width=8)
    draw.ellipse((222, 106, 228, 112), fill="black")
    return image


def street() -> Image.Image:
    """A red car before houses."""
    image = _gradient((170, 190, 210), (225, 230, 235))
    draw = ImageDraw.Draw(image)
    for x, colour in ((0, (150, 90, 70)), (85, (190, 170, 130)), (170, (120, 110, 120)), (250, (170, 130, 100))):
        draw.rectangle((x, 40 + x % 30, x + 80, 165), fill=colour)
        for wx in range(x + 10, x + 70, 24):
            for wy in range(60, 150, 32):
                draw.rectangle((wx, wy, wx + 12, wy + 18), fill=(70, 90, 110))
    draw.rectangle((0, 165, 320, 240), fill=(85, 85, 90))
    draw.rectangle((90, 160, 240, 195), fill=(200, 30, 30))
    draw.polygon([(120, 160), (140, 132), (200, 132), (220, 160)], fill=(200, 30, 30))
    draw.polygon([(130, 158), (145, 138), (195, 138), (208, 158)], fill=(170, 200, 220))
    for x in (110, 195):
        draw.ellipse((x, 180, x + 32, 212), fill=(20, 20, 20))
        draw.ellipse((x + 10, 190, x + 22, 202), fill=(160, 160, 160))
    return image


def snow() -> Image.Image:
    """Mountains with snow, and a skier in red."""
    image = _gradient((70, 130, 210), (190, 215, 240))
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 170), (70, 50), (140, 170)], fill=(120, 125, 140))
    draw.polygon([(100, 180), (200, 30), (320, 180)], fill=(105, 110, 128))
    draw.polygon([(173, 70), (200, 30), (230, 68), (200, 80)], fill="white")
    draw.polygon([(0, 150), (320, 190), (320, 240), (0, 240)], fill=(240, 244, 250))
    draw.line([(140, 205), (200, 215)], fill=(30, 30, 30), width=3)
    draw.line([(165, 208), (170, 180)], fill=(30, 30, 90), width=8)
    draw.line([(170, 182), (178, 160)], fill=(200, 30, 40), width=12)
    draw.ellipse((172, 146, 188, 162), fill=(230, 190, 160))
    return image


def table() -> Image.Image:
    """A pizza and a cup on a wooden table."""
    image = _noise(Image.new("RGB", SIZE, (140, 95, 55)), 10, 3)
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 40, 210, 210), fill=(245, 245, 240))
    draw.ellipse((55, 55, 195, 195), fill=(210, 150, 70))
    draw.ellipse((65, 65, 185, 185), fill=(225, 90, 50))
    for x, y in ((85, 90), (130, 80), (150, 125), (100, 145), (125, 115)):
        draw.ellipse((x, y, x + 24, y + 24), fill=(170, 30, 30))
        draw.ellipse((x + 18, y - 12, x + 30, y), fill=(70, 120, 50))
    draw.ellipse((235, 70, 300, 135), fill=(240, 240, 245))
    draw.ellipse((243, 78, 292, 127), fill=(60, 35, 20))
    return image


def park() -> Image.Image:
    """A child with a ball under a tree."""
    image = _gradient((130, 190, 240), (210, 230, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 150, 320, 240), fill=(95, 165, 70))
    draw.rectangle((60, 90, 80, 175), fill=(95, 65, 40))
    draw.ellipse((15, 15, 130, 115), fill=(45, 115, 45))
    draw.rectangle((185, 135, 215, 175), fill=(230, 80, 140))
    draw.ellipse((186, 104, 214, 134), fill=(230, 190, 160))
    draw.pieslice((184, 100, 216, 132), 180, 360, fill=(80, 50, 30))
    for x in (188, 202):
        draw.rectangle((x, 175, x + 9, 205), fill=(50, 70, 140))
    draw.line([(185, 142), (165, 165)], fill=(230, 190, 160), width=7)
    draw.line([(215, 142), (240, 160)], fill=(230, 190, 160), width=7)
    draw.ellipse((236, 185, 266, 215), fill=(240, 210, 40))
    return image


SCENES: dict[str, Callable[[], Image.Image]] = {
    scene.__name__: scene for scene in (beach, field, street, snow, table, park)
}


def main() -> None:
    """Draw all of them anew."""
    FOLDER.mkdir(exist_ok=True)
    for number, (name, scene) in enumerate(SCENES.items()):
        softened = _noise(scene().filter(ImageFilter.GaussianBlur(0.6)), 4, number)
        softened.save(FOLDER / f"{name}.webp", quality=90)


if __name__ == "__main__":
    main()
