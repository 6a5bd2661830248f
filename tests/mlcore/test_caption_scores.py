"""The reward against pycocoevalcap's own CIDEr, and the vocabulary of words."""

from __future__ import annotations

import pytest

from mlcore.text import Vocabulary, caption_words
from mlcore.training.caption_scores import CiderReward, meteor, repeats_itself, score, self_bleu

REFERENCES = [
    [caption_words(text) for text in several]
    for several in (
        ("A brown dog runs over the grass.", "The dog is running on grass .", "A dog plays in a field"),
        ("Two children sit on a red bench.", "A boy and a girl on a bench", "Children are sitting outside"),
        ("A man rides a bicycle down the street.", "The cyclist wears a helmet .", "A man on a bike"),
    )
]
FOUND = [caption_words(text) for text in ("a dog runs on the grass", "two men sit on a bench", "a horse")]


def test_the_reward_is_cider() -> None:
    reward = CiderReward(REFERENCES)
    mean = sum(reward(i, words) for i, words in enumerate(FOUND)) / len(FOUND)
    assert mean == pytest.approx(score(FOUND, REFERENCES)["cider"], abs=1e-6)
    assert reward(0, FOUND[0]) > reward(1, FOUND[1]) > reward(2, FOUND[2])


def test_a_perfect_caption_has_bleu_one() -> None:
    assert score([several[0] for several in REFERENCES], REFERENCES)["bleu4"] == pytest.approx(1.0)


def test_words_of_captions_are_alike_whatever_the_set() -> None:
    assert caption_words("Two young, White males' T-shirts aren't clean .") == [
        *("two", "young", "white", "males", "t-shirts", "aren't", "clean")
    ]


def test_a_vocabulary_survives_its_file() -> None:
    made = Vocabulary.train(REFERENCES[0], min_count=2)
    again = Vocabulary.from_bytes(made.to_bytes())
    assert again.words == made.words
    ids = again.encode(["a", "zebra", "dog"])
    assert ids[1] == Vocabulary.unk_id
    assert again.decode([Vocabulary.bos_id, *ids, Vocabulary.eos_id]) == ["a", "dog"]


def test_meteor_prefers_the_right_words() -> None:
    right, wrong = [several[1] for several in REFERENCES], [caption_words("a plate of food")] * 3
    assert meteor(right, REFERENCES) > 0.9 > 0.3 > meteor(wrong, REFERENCES)


def test_likeness_of_captions() -> None:
    same = [caption_words("a dog runs over the green grass")] * 2
    assert self_bleu([same]) == pytest.approx(1.0)
    assert self_bleu([[same[0], caption_words("two children sit on one red bench")]]) < 0.1


@pytest.mark.parametrize(
    ("text", "repeats"),
    [("a man and a man", True), ("the the dog", True), ("a dog and a cat", False), ("a man on a horse", False)],
)
def test_repeats_are_seen(text: str, repeats: bool) -> None:
    assert repeats_itself(caption_words(text)) is repeats
