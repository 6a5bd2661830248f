"""Writing on: the same text alone, in a batch and taken up again; sampling; what is never written."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mlcore import task, writing
from mlcore.bundle import Bundle
from mlcore.engine import Failed, Final, Partial
from mlcore.errors import InvalidInput
from mlcore.fields import Record
from mlcore.models.continuous_cache import Cache, CacheConfig, Reading
from mlcore.predictor import Predictor
from mlcore.sampling import Draws, draw, uniform
from mlcore.subwords import TextTokenizer
from mlcore.training import language_evaluation
from mlcore.training.voices import (
    CarriedLoss,
    StreamBatches,
    bits_per_character,
    nats,
    nats_of_streams,
    nats_of_texts,
    pieces,
)

SPEC = task.get("text-generation")
OPTIONS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def predictor(tiny_bundles: dict[str, Bundle]) -> Predictor:
    return Predictor(tiny_bundles["text-generation"])


def write(predictor: Predictor, prompt: str = "The fog", **options: Any) -> dict[str, Any]:
    chosen = {"seed": 7, "max_new_tokens": 40, **options}
    (found,) = predictor.predict([{"prompt": prompt}], chosen)
    return found["output"] if "output" in found else found["error"]


def run(engine: Any) -> Iterator[tuple[Any, Any]]:
    while engine.rows:
        yield from engine.step()


def test_the_same_seed_gives_the_same_text_and_another_another(predictor: Predictor) -> None:
    assert write(predictor) == write(predictor)
    assert write(predictor)["generated_text"] != write(predictor, seed=8)["generated_text"]


def test_tokens_make_up_the_text(predictor: Predictor) -> None:
    output = write(predictor)
    assert "".join(token["text"] for token in output["tokens"]) == output["generated_text"]
    assert output["finish_reason"] == "length"
    assert len(output["tokens"]) == 40
    for token in output["tokens"]:
        assert 1 <= len(token["top"]) <= 5
        assert token["logprob"] <= 0
        probabilities = [entry["prob"] for entry in token["top"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_rows_that_join_and_leave_write_what_they_write_alone(predictor: Predictor) -> None:
    requests = [
        (
            {"prompt": f"Text {i}"},
            {"seed": i, "max_new_tokens": 5 + 9 * i, "voice": voice, "temperature": 0.2 + 0.3 * i},
        )
        for i, voice in enumerate(("sherlock", "poetry", "reviews", "austen"))
    ]
    alone = [next(predictor.predict([{"inputs": i, "options": o}]))["output"] for i, o in requests]
    engine = predictor.engine(3)
    waiting = list(enumerate(requests))
    found: dict[int, Any] = {}
    while waiting or engine.rows:
        if waiting and engine.free_slots:
            number, request = waiting.pop(0)
            engine.add(number, predictor.prepare(*request))
        found |= {key: event.output for key, event in engine.step() if isinstance(event, Final)}
    assert [found[i]["generated_text"] for i in range(4)] == [output["generated_text"] for output in alone]


def test_partials_add_up_and_a_cut_off_text_is_taken_up_again(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcore.generation.STEP_S", 0.0)
    whole = write(predictor, num_return_sequences=2)
    options = {"seed": 7, "max_new_tokens": 40, "num_return_sequences": 2}
    engine = predictor.engine(1)
    engine.add("a", predictor.prepare({"prompt": "The fog"}, options))
    known: dict[str, Any] = {}
    for _ in range(15):
        ((_, event),) = engine.step()
        assert isinstance(event, Partial)
        for place, part in event.parts.items():
            known[str(place)] = SPEC.merge_part(known.get(str(place), {}), part)
    stored = json.loads(json.dumps({"parts": known}))
    again = predictor.engine(1)
    again.add("a", SPEC.resume(predictor.prepare({"prompt": "The fog"}, options), stored, predictor.assets))
    events = [event for _, event in run(again)]
    assert isinstance(events[-1], Final)
    assert events[-1].output == whole
    first = next(event for event in events if isinstance(event, Partial))
    assert first.parts[0]["start"] == len(known["0"]["tokens"]), "nothing is told twice"


def test_a_row_that_is_stopped_keeps_what_it_wrote(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcore.generation.STEP_S", 0.0)
    engine = predictor.engine(2)
    for key in "ab":
        engine.add(key, predictor.prepare({"prompt": "The fog"}, {"seed": 7, "max_new_tokens": 30}))
    for _ in range(10):
        engine.step()
    kept = engine.snapshot("a")
    assert kept is not None
    assert kept["finish_reason"] == "cancelled"
    assert len(kept["tokens"]) == 10
    engine.abort("a")
    assert engine.snapshot("a") is None
    final = [event for _, event in run(engine) if isinstance(event, Final)]
    assert final[0].output["generated_text"] == write(predictor, max_new_tokens=30)["generated_text"]


def test_a_bad_row_fails_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = predictor.model.forward

    def poisoned(tokens: torch.Tensor, voices: torch.Tensor, state: Any = None) -> Any:
        hidden, state = plain(tokens, voices, state)
        hidden[voices[:, -1] == 2] = float("nan")
        return hidden, state

    monkeypatch.setattr(predictor.model, "forward", poisoned)
    engine = predictor.engine(2)
    engine.add("good", predictor.prepare({"prompt": "A"}, {"seed": 1, "max_new_tokens": 5}))
    engine.add("bad", predictor.prepare({"prompt": "A"}, {"seed": 1, "max_new_tokens": 5, "voice": "scifi"}))
    events = [(key, type(event)) for key, event in run(engine) if not isinstance(event, Partial)]
    assert sorted(events, key=str) == [("bad", Failed), ("good", Final)]


def test_temperature_0_takes_the_likeliest(predictor: Predictor) -> None:
    output = write(predictor, temperature=0, repetition_penalty=1.0)
    item = predictor.prepare({"prompt": "The fog"}, {"max_new_tokens": 40})
    (text,) = item.context.continuations
    read, model = list(text.prompt), predictor.model
    with torch.inference_mode():
        while not text.finished:
            tokens = torch.tensor([read])
            logits = model.logits(model(tokens, torch.full_like(tokens, text.voice))[0][0, -1])  # type: ignore[operator]
            likeliest = int(logits.masked_fill(torch.from_numpy(text.refused), -math.inf).argmax())
            text.push(likeliest, 0.0, [])
            read.append(likeliest)
    assert output["generated_text"] == text.text
    assert (
        output["generated_text"] == write(predictor, temperature=0, seed=99, repetition_penalty=1.0)["generated_text"]
    )


def test_a_stop_string_is_left_out(predictor: Predictor) -> None:
    whole = write(predictor)["generated_text"]
    stop = whole[12:15]
    output = write(predictor, stop=[stop])
    assert output["finish_reason"] == "stop"
    assert output["generated_text"] == whole[: whole.index(stop)]


def test_long_and_foreign_prompts_are_answered_with_a_notice(predictor: Predictor) -> None:
    assert "of 50,000 characters the last" in write(predictor, "word " * 10_000)["notice"].lower()
    foreign = write(predictor, "你好，世界", max_new_tokens=5)
    assert "English" in foreign["notice"]
    assert write(predictor, "", max_new_tokens=5)["notice"] == ""


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "0.7"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"voice": "klingon"}, "voice"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["x" * 41]}, "stop[0]"),
        ({"max_new_tokens": 1_001}, "max_new_tokens"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SPEC.clean({"prompt": "x"}, options)
    assert caught.value.field == field


@pytest.mark.parametrize(("typed", "stop"), [("\n", "\n"), ("\\n\\n", "\n\n"), (" ", " ")])
def test_a_text_may_stop_at_blank_characters(predictor: Predictor, typed: str, stop: str) -> None:
    chosen = SPEC.clean({"prompt": "x"}, {"stop": [typed]})[1]
    assert chosen["stop"] == [stop]
    field = SPEC.options["stop"]
    assert SPEC.clean({"prompt": "x"}, {"stop": field.parse(field.show([stop]) or "") or [stop]})[1]["stop"] == [stop]
    assert stop not in write(predictor, stop=[typed], temperature=1.5, max_new_tokens=60)["generated_text"]


def test_what_is_refused_has_no_probability() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    drawn = [draw(logits, OPTIONS, [], position=(0, n), allows=lambda token: token != 0) for n in range(4_000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), [0, 0.6, 0.3, 0.1], atol=0.025)
    sure = np.log(np.array([0.96, 0.02, 0.012, 0.008], dtype=np.float32))
    narrow = {**OPTIONS, "top_p": 0.95}
    kinds = {draw(sure, narrow, [], position=(0, n), allows=lambda token: token != 0) for n in range(200)}
    assert kinds == {1, 2, 3}
    many = np.zeros(2_000, dtype=np.float32)
    kinds = {draw(many, OPTIONS, [], position=(0, n), allows=lambda token: token in (7, 1_500)) for n in range(40)}
    assert kinds == {7, 1_500}


@pytest.mark.parametrize("with_cache", [False, True])
def test_rows_drawn_at_once_are_drawn_as_one_by_one(with_cache: bool) -> None:
    random = np.random.default_rng(1)
    changes: list[dict[str, Any]] = [
        {},
        {"top_p": 0.9},
        {"top_p": 0.6, "min_p": 0.1, "repetition_penalty": 1.3},
        {"min_p": 0.2},
        {"top_k": 5, "top_p": 0.9},
        {"temperature": 0.0},
        {"temperature": 2.0, "repetition_penalty": 1.1},
    ]
    rows = [{**OPTIONS, "seed": seed, **change} for seed in range(30) for change in changes]
    logits = random.normal(0, 3, (len(rows), 300)).astype(np.float32)
    logits[::3] = logits[::3].round()  # many are as likely as others
    narrow = logits + random.normal(0, 1, logits.shape).astype(np.float32) if with_cache else None
    masks = [random.random(300) < 0.2, random.random(300) < 0.8]
    recent = [random.integers(0, 300, number % 40).tolist() for number in range(len(rows))]
    refused = [masks[number % 2] for number in range(len(rows))]
    positions = [(number % 3, number) for number in range(len(rows))]
    draws = Draws(
        torch.from_numpy(logits), rows, recent, positions, refused, None if narrow is None else torch.from_numpy(narrow)
    )
    assert sum(token >= 0 for token in draws.first) > len(rows) / 3, "most need nothing more"
    for number, options in enumerate(rows):

        def allows(token: int, number: int = number) -> bool:
            return (token + number) % 5 != 0

        alone = draw(
            logits[number],
            options,
            recent[number],
            position=positions[number],
            allows=allows,
            refused=refused[number],
            narrow=None if narrow is None else narrow[number],
        )
        assert draws.token(number, allows) == alone
    assert all(not refused[number][token] for number, token in enumerate(draws.first) if token >= 0)


@pytest.mark.parametrize("temperature", [1e-320, 1e-9])
def test_a_temperature_near_0_is_0(temperature: float) -> None:
    logits = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    options = {**OPTIONS, "temperature": temperature}
    assert draw(logits, options, [], position=(0, 0), allows=lambda token: token != 1) == 2


def test_a_long_prompt_is_read_in_turns_and_once(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcore.generation.STEP_S", 0.0)
    monkeypatch.setattr("mlcore.generation.READ_S", 0.0)
    read: list[int] = []
    plain = predictor.model.forward

    def counting(tokens: torch.Tensor, voices: torch.Tensor, state: Any = None) -> Any:
        if tokens.shape[1] > 1:
            read.append(tokens.shape[1])
        return plain(tokens, voices, state)

    whole = write(predictor, "Fog. " * 150, max_new_tokens=5, num_return_sequences=3)
    monkeypatch.setattr(predictor.model, "forward", counting)
    engine = predictor.engine(2)
    engine.add("short", predictor.prepare({"prompt": "A"}, {"seed": 1, "max_new_tokens": 30}))
    engine.step()
    long = {"seed": 7, "max_new_tokens": 5, "num_return_sequences": 3}
    engine.add("long", predictor.prepare({"prompt": "Fog. " * 150}, long))
    found, waited = {}, 0
    while engine.rows:
        events = engine.step()
        waited += int(bool(engine.waiting) and any(key == "short" for key, _ in events))
        found |= {key: event.output for key, event in events if isinstance(event, Final)}
    assert waited >= len(read) - 1 >= 2, "the short text went on while the long one was read"
    assert sum(read) == len(predictor.prepare({"prompt": "Fog. " * 150}, long).context.continuations[0].prompt) - 1
    assert [t["generated_text"] for t in found["long"]["others"]] == [t["generated_text"] for t in whole["others"]]
    assert found["long"]["generated_text"] == whole["generated_text"]


def test_a_short_prompt_does_not_wait_for_all_of_a_long_one(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcore.generation.STEP_S", 0.0)
    monkeypatch.setattr("mlcore.generation.READ_S", 0.0)
    engine = predictor.engine(2)
    engine.add("long", predictor.prepare({"prompt": "Fog. " * 400}, {"seed": 1, "max_new_tokens": 2}))
    engine.add("short", predictor.prepare({"prompt": "A"}, {"seed": 1, "max_new_tokens": 2}))
    finals = [key for key, event in run(engine) if isinstance(event, Final)]
    assert finals == ["short", "long"]


def test_prompts_of_many_tokens_are_cut_with_a_notice(predictor: Predictor) -> None:
    item = predictor.prepare({"prompt": "🙂" * 5_000}, {"max_new_tokens": 1})
    assert item.cost == 3_000
    assert "of 5,000 characters the last 750 were read" in item.context.notice.lower()


def test_words_that_must_not_come_are_not_shown_and_not_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    banned = frozenset({hashlib.sha256(b"fog").hexdigest()})
    monkeypatch.setattr(writing, "banned_words", lambda: banned)
    tokenizer = TextTokenizer.train(["a fog in the street of fo g"] * 40, vocab_size=300)
    (g,), (a,) = tokenizer.encode("g"), tokenizer.encode("a")
    text = writing.Writing(tokenizer, tokenizer.encode("The fo"), 0, 0, 100, (), before=b"The fo")
    assert not text.allows(g)
    text.push(a, -1.0, [(g, 0.5), (a, 0.4)])
    assert [entry["text"] for entry in text.tokens[0]["top"]] == ["a"]


def test_a_banned_word_of_the_prompt_stops_nothing_and_bytes_hide_none(monkeypatch: pytest.MonkeyPatch) -> None:
    banned = frozenset(hashlib.sha256(word.encode()).hexdigest() for word in ("fog", "zörk"))
    monkeypatch.setattr(writing, "banned_words", lambda: banned)
    tokenizer = TextTokenizer.train(["a fog in the street of fo g zrk"] * 40, vocab_size=300)
    for before in (b"The fog", b"The fog ", b"fog. It"):
        text = writing.Writing(tokenizer, [0], 0, 0, 100, (), before=before)
        assert all(text.allows(token) for token in tokenizer.encode(" .\na"))
    text = writing.Writing(tokenizer, [0], 0, 0, 100, (), before=b"")
    *most, last = tokenizer.encode("zörk")
    assert len(most) >= 3, "the vowel is two bytes"
    for token in most:
        assert text.allows(token)
        text.push(token, -1.0, [])
    assert not text.allows(last)


def test_where_nothing_is_allowed_no_refused_token_comes() -> None:
    logits, refused = np.array([5.0, 4.0, 1.0, 2.0], dtype=np.float32), np.array([True, True, False, False])
    assert draw(logits, OPTIONS, [], position=(0, 0), allows=lambda token: False, refused=refused) == 3


def test_a_space_behind_the_prompt_is_not_read_and_not_written_again(predictor: Predictor) -> None:
    item = predictor.prepare({"prompt": "The fog  "}, {})
    (text,) = item.context.continuations
    assert text.prompt == predictor.prepare({"prompt": "The fog"}, {}).context.continuations[0].prompt
    raw = predictor.assets.tokenizer.raw
    may = [piece for piece, refused in zip(raw, text.refused, strict=True) if not refused]
    assert may
    assert all(piece.startswith(b" ") for piece in may)
    spaced = next(token for token, piece in enumerate(raw) if len(piece) > 1 and piece.startswith(b" "))
    text.push(spaced, -1.0, [(spaced, 0.5)])
    text.push(spaced, -1.0, [(spaced, 0.5)])
    word = raw[spaced].decode()
    assert text.text == word[1:] + word
    assert [token["text"] for token in text.tokens] == [word[1:], word]
    assert [token["top"][0]["text"] for token in text.tokens] == [word[1:], word]


def test_a_prompt_begins_as_a_paragraph_does_however_lines_end(predictor: Predictor) -> None:
    def tokens(prompt: str) -> Any:
        return predictor.prepare({"prompt": prompt}, {}).context.continuations[0].prompt

    (line_end,) = predictor.assets.tokenizer.encode("\n")
    assert tokens("") == [line_end]
    assert tokens("The fog") == [line_end, *predictor.assets.tokenizer.encode("The fog")]
    assert tokens("The\r\nfog") == tokens("The\nfog")
    assert tokens("word " * 10_000)[0] != line_end, "not where the beginning is left out"


@pytest.mark.parametrize(
    ("raw", "piece", "right"),
    [
        (b"", b"\xe2\x82", True),
        (b"\xe2\x82", b"\xac", True),
        (b"\xe2\x82", b"t", False),
        (b"a\xc3", b"\xa4", True),
        (b"\xc3\xa4", b"\xa4", False),
        (b"\xf0\x9f", b"\x99\x82", True),
        (b"", b"\xff", False),
        ("ä".encode(), "€x".encode(), True),
    ],
)
def test_pieces_keep_characters_whole(raw: bytes, piece: bytes, right: bool) -> None:
    assert writing._may_follow(writing._begun(raw), piece) is right


def test_half_an_answer_is_an_output(predictor: Predictor) -> None:
    known = {"0": {"start": 0, "ids": [5], "tokens": [{"text": " fog", "logprob": -1.0, "top": []}]}}
    options = SPEC.clean({"prompt": "x"}, {"num_return_sequences": 2, "seed": 7})[1]
    found = SPEC.output_of_partial(options, {"parts": known})
    assert found is not None
    assert (found["generated_text"], found["finish_reason"], found["seed"]) == (" fog", "cancelled", 7)
    assert [other["generated_text"] for other in found["others"]] == [""]
    Record(fields=SPEC.output).clean("output", found)
    ended = SPEC.output_of_partial({**options, "stop": ["og"], "max_new_tokens": 1}, {"parts": known})
    assert ended is not None
    assert (ended["generated_text"], ended["finish_reason"]) == (" f", "stop")
    assert ended["others"][0]["finish_reason"] == "cancelled"
    full = SPEC.output_of_partial({**options, "max_new_tokens": 1}, {"parts": known})
    assert full is not None
    assert full["finish_reason"] == "length"


def test_spaces_behind_a_prompt_are_no_part_of_what_is_cut(predictor: Predictor) -> None:
    item = predictor.prepare({"prompt": "A story" + " " * 9_000}, {})
    (text,) = item.context.continuations
    assert list(text.prompt) == predictor.assets.tokenizer.encode("\nA story")
    assert text.spaced
    assert not item.context.notice


def test_an_end_and_a_notice_are_told_and_known_again(predictor: Predictor) -> None:
    options = {"seed": 1, "num_return_sequences": 2, "max_new_tokens": 9}
    asked = {"prompt": "word " * 10_000}
    first, second = predictor.prepare(asked, options).context.continuations
    first.push(predictor.assets.tokenizer.encode("a")[0], -1.0, [])
    first.push(predictor.assets.tokenizer.eos_id, -1.0, [])
    told = first.fresh()
    assert told["finish_reason"] == "eos"
    assert not first.fresh(), "once"
    second.push(predictor.assets.tokenizer.encode("b")[0], -1.0, [])
    stored = {"parts": {"0": SPEC.merge_part({}, told), "1": SPEC.merge_part({}, second.fresh())}}
    _, cleaned = SPEC.clean(asked, options)
    stopped = SPEC.output_of_partial(cleaned, stored)
    assert (stopped["finish_reason"], stopped["others"][0]["finish_reason"]) == ("eos", "cancelled")
    assert "characters the last" in stopped["notice"]
    again = SPEC.resume(predictor.prepare(asked, options), stored, predictor.assets).context.continuations
    assert [text.finished for text in again] == [True, False]


def test_a_seed_is_drawn_where_none_is_given() -> None:
    seeds = {SPEC.clean({"prompt": "x"}, {})[1]["seed"] for _ in range(4)}
    assert len(seeds) == 4


def test_draws_follow_their_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    drawn = [draw(logits, OPTIONS, [], position=(0, n), allows=lambda token: True) for n in range(4_000)]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=0.025)
    assert uniform(1, 0, 5) == uniform(1, 0, 5) != uniform(1, 1, 5)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.75}, {0, 1}),
        ({"min_p": 0.31}, {0, 1}),
        ({"top_p": 0.01}, {0}),
    ],
)
def test_candidates_are_narrowed(options: dict[str, Any], kinds: set[int]) -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    drawn = {draw(logits, {**OPTIONS, **options}, [], position=(0, n), allows=lambda t: True) for n in range(300)}
    assert drawn == kinds


@pytest.mark.parametrize("draws", [0, 8])
@pytest.mark.parametrize(
    ("options", "refused", "shares"),
    [
        ({}, [], [0.45, 0.3, 0.15, 0.1]),
        ({}, [0], [0, 0.5454, 0.2727, 0.1818]),
        ({"top_k": 2}, [], [0.6, 0.4, 0, 0]),
        ({"top_k": 2}, [0], [0, 0.6667, 0.3333, 0]),
        ({"top_p": 0.7}, [], [0.6, 0.4, 0, 0]),
        ({"top_p": 0.7}, [0], [0, 0.6667, 0.3333, 0]),
        ({"min_p": 0.3}, [], [0.5, 0.3333, 0.1667, 0]),
        ({"min_p": 0.4, "top_p": 0.9}, [0], [0, 0.6667, 0.3333, 0]),
        ({"top_k": 3, "top_p": 0.8}, [1], [0.75, 0, 0.25, 0]),
    ],
)
def test_shares_are_those_of_what_is_left(
    options: dict[str, Any], refused: list[int], shares: list[float], draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcore.sampling._DRAWS", draws)
    logits = np.log(np.array([0.45, 0.3, 0.15, 0.1], dtype=np.float32))
    mask = np.isin(np.arange(4), refused)
    chosen = {**OPTIONS, **options}
    drawn = [draw(logits, chosen, (), position=(0, n), allows=lambda t: True, refused=mask) for n in range(4_000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), shares, atol=0.03)


@pytest.mark.parametrize("draws", [0, 8])
@pytest.mark.parametrize("options", [{"top_p": 0.7}, {"top_k": 2}, {"min_p": 0.5}])
def test_candidates_are_narrowed_by_one_distribution_and_drawn_by_another(
    options: dict[str, Any], draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcore.sampling._DRAWS", draws)
    own, both = (np.log(np.array(x, dtype=np.float32)) for x in ([0.45, 0.3, 0.15, 0.1], [0.1, 0.4, 0.1, 0.4]))
    chosen = {**OPTIONS, **options}
    drawn = [draw(both, chosen, (), position=(0, n), allows=lambda t: True, narrow=own) for n in range(4_000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / len(drawn), [0.2, 0.8, 0, 0], atol=0.03)
    greedy = {**chosen, "temperature": 0}
    assert draw(both, greedy, (), position=(0, 0), allows=lambda t: t != 0, narrow=own) == 1


def test_what_dwarfs_the_candidates_does_not_hide_their_weights() -> None:
    cold = {**OPTIONS, "temperature": 0.002, "top_k": 2}
    own, both = (np.array(x, dtype=np.float32) for x in ([0.0, -0.001, -9.0, -9.0], [0.0, 0.4, -9.0, 9.0]))
    assert {draw(both, cold, (), position=(0, n), allows=lambda t: True, narrow=own) for n in range(40)} == {1}


def test_equal_tokens_are_kept_by_their_ids() -> None:
    logits = np.zeros(6, dtype=np.float32)
    drawn = {draw(logits, {**OPTIONS, "top_k": 2}, [], position=(0, n), allows=lambda t: True) for n in range(200)}
    assert drawn == {0, 1}
    drawn = {draw(logits, {**OPTIONS, "top_p": 0.4}, [], position=(0, n), allows=lambda t: True) for n in range(200)}
    assert drawn == {0, 1, 2}


def test_a_flat_distribution_over_many_tokens_is_drawn_from_whole() -> None:
    logits = np.zeros(2_000, dtype=np.float32)
    drawn = {draw(logits, {**OPTIONS, "top_p": 0.99}, [], position=(0, n), allows=lambda t: True) for n in range(3_000)}
    assert len(drawn) > 1_200


def test_repetition_is_penalised_and_what_is_not_allowed_passed_over() -> None:
    logits = np.array([2.0, 1.9, -3.0], dtype=np.float32)
    greedy = {**OPTIONS, "temperature": 0}
    assert draw(logits, greedy, [], position=(0, 0), allows=lambda t: True) == 0
    assert draw(logits, {**greedy, "repetition_penalty": 1.5}, [0], position=(0, 0), allows=lambda t: True) == 1
    assert draw(logits, greedy, [], position=(0, 0), allows=lambda t: t != 0) == 1
    assert {draw(logits, OPTIONS, [], position=(0, n), allows=lambda t: t == 2) for n in range(20)} == {2}


def test_banned_words_never_come_out_not_even_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    banned = frozenset({hashlib.sha256(b"fog").hexdigest()})
    monkeypatch.setattr(writing, "banned_words", lambda: banned)
    tokenizer = TextTokenizer.train(["a fog in the street of fo g"] * 40, vocab_size=300)
    text = writing.Writing(tokenizer, [5], 0, 0, 100, ())
    for piece in tokenizer.encode(" the fo"):
        assert text.allows(piece)
        text.push(piece, -1.0, [])
    (g,) = tokenizer.encode("g")
    assert not text.allows(g)
    assert writing.is_banned("FOG")


def test_half_a_character_is_never_left_behind(predictor: Predictor) -> None:
    """But at the very end, where the length may cut one."""
    pieces = predictor.assets.tokenizer.raw
    characters = 0
    for seed in range(8):
        options = {"temperature": 2.0, "seed": seed, "top_p": 1.0, "repetition_penalty": 1.0, "max_new_tokens": 60}
        item = predictor.prepare({"prompt": "The fog"}, options)
        engine = predictor.engine(1)
        engine.add(0, item)
        for _ in run(engine):
            pass
        raw = b"".join(pieces[token] for token in item.context.continuations[0].written)
        text = codecs.getincrementaldecoder("utf-8")("strict").decode(raw)
        assert not any("\x7f" <= character <= "\x9f" for character in text)
        characters += sum(not character.isascii() for character in text)
    assert characters, "some are written of several bytes"


@pytest.mark.parametrize("text", ["A line.\n\n  Two  spaces\n", "ümlaut — “quotes”\n", "日本 🙂\n", "\ttab\r\nend"])
def test_the_vocabulary_keeps_a_text_exactly(predictor: Predictor, text: str) -> None:
    tokenizer = predictor.assets.tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bits_do_not_depend_on_how_a_stream_is_cut(predictor: Predictor) -> None:
    model, tokenizer = predictor.model, predictor.assets.tokenizer
    text = "The fog lay thick upon the street. It was dark.\n" * 30
    whole = nats(model, tokenizer, text, 0)  # type: ignore[arg-type]
    (cost,) = nats_of_texts(model, tokenizer, [(0, text)])  # type: ignore[arg-type]
    ids = [tokenizer.encode("\n")[0], *tokenizer.encode(text)]
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        hidden, _ = model(tokens[:, :-1], torch.zeros_like(tokens[:, :-1]))
        log_p = model.logits(hidden).log_softmax(dim=-1).gather(2, tokens[:, 1:, None])  # type: ignore[operator]
    assert cost.uncached == pytest.approx(-float(log_p.sum()), rel=1e-4)
    assert whole == cost.nats != cost.uncached
    bits = bits_per_character(model, tokenizer, text, 0)  # type: ignore[arg-type]
    assert bits == pytest.approx(whole / len(text) / math.log(2))
    assert bits_per_character(model, tokenizer, text, 0, rows=4) == pytest.approx(bits, rel=0.1)  # type: ignore[arg-type]


def test_texts_are_read_side_by_side_as_they_are_alone(predictor: Predictor) -> None:
    model, tokenizer = predictor.model, predictor.assets.tokenizer
    held = [(0, "The fog.\n"), (3, "It was dark, and nobody came down the street.\n" * 40), (1, "So it went.\n" * 30)]
    together = [cost.nats for cost in nats_of_texts(model, tokenizer, held)]  # type: ignore[arg-type]
    alone = [nats(model, tokenizer, text, voice) for voice, text in held]  # type: ignore[arg-type]
    assert together == pytest.approx(alone, rel=1e-5)


def test_a_text_is_written_as_likely_as_it_is_scored(predictor: Predictor) -> None:
    """Also where it is longer than the cache, joins others, and leaves before them."""
    engine, found = predictor.engine(3), {}
    for key, (prompt, limit) in enumerate([("The fog", 60), ("It was dark. " * 9, 25), ("", 40)]):
        item = predictor.prepare({"prompt": prompt}, {"seed": key, "max_new_tokens": limit})
        engine.add(key, item)
        found[key] = item.context.continuations[0]
    for _ in run(engine):
        pass
    for text in found.values():
        before, all_of_it = (
            cost.nats
            for cost in nats_of_streams(predictor.model, [(0, text.prompt), (0, [*text.prompt, *text.written])])  # type: ignore[arg-type]
        )
        told = -sum(token["logprob"] for token in text.tokens)
        assert told == pytest.approx(all_of_it - before, abs=1e-3 * len(text.tokens))


@pytest.mark.parametrize("cuts", [(12,), (1, 5, 6), (5, 7)])
def test_the_cache_is_the_same_step_by_step_and_window_by_window(cuts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    config = CacheConfig(5, 0.3, 0.7)
    hidden, ids, logits = torch.randn(2, 12, 4), torch.randint(0, 6, (2, 12)), torch.randn(2, 12, 6)
    plain = logits.softmax(dim=-1)
    cache, steps = Cache.empty(config, 2, 4, device=hidden.device), []
    for t in range(12):
        chances = cache.mixed(logits[:, t], hidden[:, t]).softmax(dim=-1)
        torch.testing.assert_close(chances.sum(dim=-1), torch.ones(2))
        steps.append(chances.gather(1, ids[:, t, None])[:, 0])
        cache.push(hidden[:, t : t + 1], ids[:, t : t + 1])
    torch.testing.assert_close(steps[0], plain[:, 0].gather(1, ids[:, :1])[:, 0])  # nothing to remember at first
    reading, start = Reading(config), 0
    for size in cuts:
        window = slice(start, start + size)
        given, share = reading.chances(hidden[:, window], ids[:, window])
        own = plain[:, window].gather(2, ids[:, window, None])[..., 0]
        torch.testing.assert_close(own * (1 - share) + given * share, torch.stack(steps[window], dim=1))
        start += size
    at_once = Cache.empty(config, 2, 4, device=hidden.device)
    at_once.push(hidden, ids)
    torch.testing.assert_close(at_once.mixed(logits[:, 0], hidden[:, 0]), cache.mixed(logits[:, 0], hidden[:, 0]))


def test_pieces_of_a_book_carry_its_heading_and_lose_nothing() -> None:
    lines = [f"Line {number} of it.\n" for number in range(400)]
    book = "### A Study / Doyle\n" + "".join(lines)
    parts = pieces(book, 2_000)
    assert len(parts) > 2
    assert all(part.startswith("### A Study / Doyle\n") for part in parts)
    assert "".join(part.removeprefix("### A Study / Doyle\n") for part in parts) == "".join(lines)
    assert max(map(len, parts)) < 1.2 * min(map(len, parts))
    assert pieces(book, 0) == [book]
    assert "".join(pieces("".join(lines), 2_000)) == "".join(lines)


def test_two_epochs_read_each_half_of_a_halved_voice_once() -> None:
    books = [(place % 3, np.full(50, place, dtype=np.int32)) for place in range(60)]
    batches = StreamBatches(books, rows=1, seed=[1, 2], halved=2)
    chosen = [sorted(batches._chosen(np.random.default_rng(number), number).tolist()) for number in range(4)]
    for one, other in (chosen[:2], chosen[2:]):
        assert len(one) == len(other) == 50
        assert sorted({*one} | {*other}) == list(range(60))
        assert {place for place in one if place % 3 == 2}.isdisjoint(place for place in other if place % 3 == 2)
    assert chosen[0] != chosen[2]


def test_samples_come_from_all_over_a_text() -> None:
    text = "".join(chr(97 + place // 1_000) for place in range(26_000))
    found = language_evaluation.sample(text, 8_000)
    assert len(found) == 8_000
    assert {"a", "z"} <= set(found)
    assert len(set(found)) >= 8
    assert language_evaluation.sample(text, 30_000) == text


def test_a_state_that_is_no_number_is_forgotten(predictor: Predictor) -> None:
    loss = CarriedLoss()
    books = [(0, np.tile(np.arange(4, 40, dtype=np.int32), 60))]
    first, second, *_ = StreamBatches(books, rows=2, seed=1).epoch(0, skip=0)
    loss(predictor.model, first)  # type: ignore[arg-type]
    assert loss.state is not None
    loss.state[0][0].fill_(float("nan"))
    assert not loss(predictor.model, second).isfinite()  # type: ignore[arg-type]
    assert loss(predictor.model, second).isfinite()  # type: ignore[arg-type]


def test_windows_follow_each_other_and_can_be_skipped() -> None:
    books = [(0, np.arange(5_000, dtype=np.int32)), (1, np.arange(5_000, 9_000, dtype=np.int32))]
    batches = StreamBatches(books, rows=4, seed=3)
    windows = list(batches.epoch(0, skip=0))
    for before, after in itertools.pairwise(windows):
        assert (before["tokens"][:, -1] == after["tokens"][:, 0]).all()
    assert [int(window["first"]) for window in windows] == [1] + [0] * (len(windows) - 1)
    skipped = list(batches.epoch(0, skip=3))
    assert (skipped[0]["tokens"] == windows[3]["tokens"]).all()
    assert int(skipped[0]["first"]) == 1
    assert ((windows[0]["tokens"] >= 5_000) == (windows[0]["voices"] == 1)).all()


def test_the_state_is_carried_without_its_gradient(predictor: Predictor) -> None:
    loss = CarriedLoss()
    books = [(0, np.tile(np.arange(4, 40, dtype=np.int32), 60))]
    first, second, *_ = StreamBatches(books, rows=2, seed=1).epoch(0, skip=0)
    model = predictor.model
    loss(model, first)  # type: ignore[arg-type]
    carried = float(loss(model, second))  # type: ignore[arg-type]
    fresh = float(CarriedLoss()(model, {**second, "first": torch.tensor([1])}))  # type: ignore[arg-type]
    assert carried != fresh
    assert loss.state is not None
    assert not loss.state[0][0].requires_grad


def test_greedy_looks_at_all_tokens_before_it_takes_a_refused_one() -> None:
    logits = np.linspace(5, 0, 1_000).astype(np.float32)
    greedy = {**OPTIONS, "temperature": 0}
    assert draw(logits, greedy, [], position=(0, 0), allows=lambda token: token == 900) == 900


def test_a_continuation_that_raises_fails_its_row_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = predictor.engine(2)
    for key in ("good", "bad"):
        engine.add(key, predictor.prepare({"prompt": "A"}, {"seed": 1, "max_new_tokens": 5}))

    def broken(token: int) -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine.texts["bad"][0], "allows", broken)
    ended = {key: type(event) for key, event in run(engine) if not isinstance(event, Partial)}
    assert ended == {"good": Final, "bad": Failed}


def test_a_number_too_large_for_anything_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        SPEC.clean({"prompt": "x"}, {"seed": 10**400})
