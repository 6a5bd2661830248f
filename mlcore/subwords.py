"""Pieces of words in several languages: one sentencepiece vocabulary for all, with marks and bytes for the rest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property

from mlcore.pieces import PieceVocabulary, train_pieces
from mlcore.placeholders import MARKS


def language_symbol(language: str) -> str:
    """The symbol that asks for a language (Johnson et al. 2017, https://arxiv.org/abs/1611.04558)."""
    return f"<2{language}>"


class SubwordTokenizer(PieceVocabulary):
    """A unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959) with byte fallback: no symbol is unknown.

    Ids 0 to 3 are pad, unk, bos and eos; a symbol for each language and each mark of `mlcore.placeholders` follow.
    """

    @cached_property
    def mark_ids(self) -> list[int]:
        """Ids of the marks, in their order."""
        return [int(self._processor.piece_to_id(symbol)) for symbol in MARKS]

    def language_id(self, language: str) -> int:
        """Id of the symbol that asks for a language."""
        return int(self._processor.piece_to_id(language_symbol(language)))

    def encode(self, text: str) -> list[int]:
        """Ids of the best segmentation."""
        return list(self._processor.encode(text))

    def is_long(self, text: str, most: int) -> bool:
        """Whether a text has more than `most` pieces; short texts are not looked at.

        A byte is a piece at most, those of the normal form (one sign may be a whole phrase there), and the text's begin
        may be one.
        """
        return len(unicodedata.normalize("NFKC", text).encode()) >= most and len(self.encode(text)) > most

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the best segmentations of many texts."""
        return list(self._processor.encode(list(texts), num_threads=2))

    def sample(self, text: str, alpha: float) -> list[int]:
        """Ids of a segmentation drawn from the model; a smaller `alpha` draws more evenly (subword regularisation)."""
        return list(self._processor.encode(text, enable_sampling=True, alpha=alpha, nbest_size=-1))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces as people read them: a leading space where a word begins."""
        return [str(self._processor.id_to_piece(int(index))).replace("▁", " ") for index in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; control symbols vanish, bytes that are no text become U+FFFD."""
        return str(self._processor.decode([int(index) for index in ids]))

    @classmethod
    def train(
        cls, texts: Iterable[str], *, languages: Sequence[str], vocab_size: int, seed_sentences: int = 600_000
    ) -> SubwordTokenizer:
        """Train a vocabulary of `vocab_size` pieces on texts of all languages; marks stand in them already."""
        model = train_pieces(
            texts,
            vocab_size=vocab_size,
            character_coverage=0.9998,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc",
            sentences=seed_sentences,
            control_symbols=[language_symbol(language) for language in languages],
            user_defined_symbols=list(MARKS),
        )
        return cls(model)


class TextTokenizer(PieceVocabulary):
    """A vocabulary that keeps a text exactly, spaces and line breaks included: decode(encode(text)) == text.

    But for U+2581, sentencepiece's own sign for a space, which comes back as one.
    Ids 0 to 3 are pad, unk, bos and eos. With `kind` "char" every character is a piece, and others are unk.
    """

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return list(self._processor.encode(text))

    @cached_property
    def raw(self) -> list[bytes]:
        """The bytes that each id stands for; nothing for the special ones."""
        found: list[bytes] = []
        for index in range(self.vocab_size):
            piece = str(self._processor.id_to_piece(index))
            if self._processor.is_byte(index):
                found.append(bytes([int(piece[3:-1], 16)]))
            elif self._processor.is_control(index) or self._processor.is_unknown(index):
                found.append(b"")
            else:
                found.append(piece.replace("▁", " ").encode())
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are no text become U+FFFD."""
        return b"".join(self.raw[index] for index in ids).decode("utf-8", "replace")

    @classmethod
    def train(
        cls, texts: Iterable[str], *, vocab_size: int, kind: str = "unigram", seed_sentences: int = 300_000
    ) -> TextTokenizer:
        """Train a vocabulary on lines of text, without their line ends."""
        model = train_pieces(
            texts,
            vocab_size=vocab_size,
            model_type=kind,
            character_coverage=0.9999 if kind == "unigram" else 1.0,
            byte_fallback=kind == "unigram",
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            sentences=seed_sentences,
            max_sentence_length=20_000,
            user_defined_symbols=["\n"],
        )
        return cls(model)
