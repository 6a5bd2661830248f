"""What all vocabularies of sentencepiece share: the stored model, its special ids, its training."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sentencepiece


class PieceVocabulary:
    """A sentencepiece model (Kudo 2018, https://arxiv.org/abs/1804.10959); ids 0 to 3 are pad, unk, bos and eos."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    def __init__(self, model: bytes) -> None:
        self.model = model

    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the special ones included."""
        return int(self._processor.vocab_size())


def train_pieces(texts: Iterable[str], *, vocab_size: int, sentences: int, **options: Any) -> bytes:
    """A unigram model of at most `vocab_size` pieces, as bytes, of at most so many of the texts; `options` are
    sentencepiece's own."""
    import sentencepiece

    buffer = io.BytesIO()
    defaults = {
        **{"model_type": "unigram", "hard_vocab_limit": False},
        **{"num_threads": 2, "minloglevel": 2},
        **{"pad_id": PieceVocabulary.pad_id, "unk_id": PieceVocabulary.unk_id},
        **{"bos_id": PieceVocabulary.bos_id, "eos_id": PieceVocabulary.eos_id},
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_drawn(texts, sentences)),
        model_writer=buffer,
        vocab_size=vocab_size,
        **{**defaults, **options},
    )
    return buffer.getvalue()


def _drawn(texts: Iterable[str], number: int) -> list[str]:
    """At most `number` texts, the same at each call (Vitter 1985, algorithm R): sentencepiece's own draw is another one
    in each process."""
    generator = random.Random(1)
    kept: list[str] = []
    for place, text in enumerate(texts):
        if place < number:
            kept.append(text)
        elif (chosen := generator.randrange(place + 1)) < number:
            kept[chosen] = text
    return kept
