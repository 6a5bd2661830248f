"""The captioned and tagged photos of the data folder.

Layout: `flickr8k/{train-*,val,extra}.tar` of ID.webp (224 x 224, squashed) and
`flickr8k/captions.{train,val,extra}.tsv.gz` (image, number, caption; Hodosh et al. 2013, JAIR 47);
`captions_extra/coco.tar` with `coco.captions.tsv.gz`, and `captions_extra/{coco,flickr30k}_text_only.tsv.gz`, captions
without photos (Lin et al. 2014, Young et al. 2014); `coco80/train-*.tar`, `coco80/tags.train.tsv.gz`,
`coco80/captions.train.tsv.gz`, `coco80/classes.txt`, and `flickr8k/tags.{train,val,extra}.tsv.gz` (image,
tag:count,...), `flickr8k/tag_classes.tsv`; `pretrained/efficientnet_lite2_*.safetensors`, the encoder's start.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlcore.errors import InvalidInput
from mlcore.media.image import square
from mlcore.text import caption_words
from mlcore.training.data import read_lines, read_table


@dataclass(frozen=True)
class Photo:
    """A photo as its encoded bytes, and what people wrote about it.

    `tags` are on it and `doubtful` ones may be; of the label set `tag_set`, all others are not.
    """

    name: str
    data: bytes
    captions: tuple[tuple[str, ...], ...] = ()
    tags: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    tag_set: str = ""

    def pixels(self, side: int) -> NDArray[np.uint8]:
        """(3, side, side), squashed."""
        with Image.open(io.BytesIO(self.data)) as opened:
            return square(opened.convert("RGB"), side).transpose(2, 0, 1)


def _need(path: Path) -> Path:
    if not path.exists():
        raise InvalidInput("data", f"{path} is missing. mlcore/training/photos.py names what the data folder holds.")
    return path


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        with tarfile.open(_need(path)) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None:
                    yield Path(member.name).stem, file.read()


def _captions(path: Path) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for name, _, text in read_table(_need(path)):
        found.setdefault(Path(name).stem, []).append(tuple(caption_words(text)))
    return found


def captioned(data: Path, split: str) -> list[Photo]:
    """Flickr8k's `train` (with the photos of no split, and COCO's) or `val`."""
    flickr = data / "flickr8k"
    if split == "train":
        sources = [
            (sorted(flickr.glob("train-*.tar")), flickr / "captions.train.tsv.gz"),
            ([flickr / "extra.tar"], flickr / "captions.extra.tsv.gz"),
            ([data / "captions_extra" / "coco.tar"], data / "captions_extra" / "coco.captions.tsv.gz"),
            (sorted((data / "coco80").glob("train-*.tar")), data / "coco80" / "captions.train.tsv.gz"),
        ]
    else:
        sources = [([flickr / f"{split}.tar"], flickr / f"captions.{split}.tsv.gz")]
    photos = []
    for archives, table in sources:
        captions = _captions(table)
        photos += [Photo(n, content, tuple(captions[n])) for n, content in _files(archives) if n in captions]
    if not photos:
        raise InvalidInput("data", f"{flickr} holds no photos of {split}.")
    return photos


def caption_texts(data: Path) -> list[tuple[str, ...]]:
    """Captions without photos, COCO's and Flickr30k's; a photo's stand together."""
    folder = data / "captions_extra"
    tables = [_captions(folder / f"{name}_text_only.tsv.gz") for name in ("coco", "flickr30k")]
    return [caption for table in tables for captions in table.values() for caption in captions]


def label_sets(data: Path) -> dict[str, list[str]]:
    """Names of the labels that each set of photos was marked with, in their files' order."""
    coco = list(read_lines(_need(data / "coco80" / "classes.txt")))
    flickr = [row[0] for row in read_table(_need(data / "flickr8k" / "tag_classes.tsv"))][1:]
    return {"coco": [name for name in coco if name], "flickr8k": flickr}


def tagged(data: Path, split: str) -> list[Photo]:
    """Photos with tags: of `train`, `val` or, for those who have it, `test` (COCO's `tags.val.tsv.gz`, `val*.tar`).

    Every fifth photo of COCO's train is held out as `val`. Flickr8k's tags were derived from captions: one that two of
    five captions name is taken, one that a single caption names is doubtful.
    """
    coco, flickr = data / "coco80", data / "flickr8k"
    official = "val" if split == "test" else "train"
    marked = {Path(row[0]).stem: row[1] for row in read_table(_need(coco / f"tags.{official}.tsv.gz"))}
    photos = [
        Photo(name, content, tags=frozenset(filter(None, marked[name].split(","))), tag_set="coco")
        for number, (name, content) in enumerate(_files(sorted(coco.glob(f"{official}*.tar"))))
        if split == "test" or (number % 5 == 4) == (split == "val")
    ]
    named = _counts(flickr / f"tags.{split}.tsv.gz")
    archives = sorted(flickr.glob("train-*.tar")) if split == "train" else [flickr / f"{split}.tar"]
    if split == "train":
        named |= _counts(flickr / "tags.extra.tsv.gz")
        archives.append(flickr / "extra.tar")
    for name, content in _files(archives):
        counts = named.get(name)
        if counts is not None:
            sure = frozenset(tag for tag, count in counts.items() if count >= 2)
            photos.append(
                Photo(name, content, tags=sure, doubtful=frozenset(counts) - sure, tag_set="flickr8k"),
            )
    return photos


def _counts(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, tags in read_table(_need(path)):
        pairs = (entry.rsplit(":", 1) for entry in tags.split(",") if entry)
        found[Path(name).stem] = {tag: int(count) for tag, count in pairs}
    return found


class FeatureCache:
    """Features of photos, of their mirror images and of other views, float16, computed once and kept on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(
        self,
        photos: Sequence[Photo],
        side: int,
        encode: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        key: str,
        others: Sequence[Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = (),
    ) -> NDArray[np.float16]:
        """(N, 2 + V, P, F), memory-mapped; `encode` takes (B, 3, S, S); `key` names the encoder's weights.

        Each of the V `others` makes pixels of the same shape from those; `key` names them too.
        """
        names = hashlib.sha256(f"{key} {side} {[photo.name for photo in photos]}".encode()).hexdigest()[:16]
        path = self.folder / f"features-{names}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            table: NDArray[np.float16] | None = None
            for start in range(0, len(photos), 32):
                pixels = np.stack([photo.pixels(side) for photo in photos[start : start + 32]])
                found = [encode(view) for view in (pixels, pixels[..., ::-1].copy())]
                found += [encode(change(pixels)) for change in others]
                if table is None:
                    shape = (len(photos), len(found), *found[0].shape[1:])
                    table = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
                for view, values in enumerate(found):
                    table[start : start + len(values), view] = values
            del table
            partial.rename(path)
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
