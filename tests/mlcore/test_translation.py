"""The translation task: directions, detection, parts, glossary, documents; a toy model that knows a few sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcore import languages, task
from mlcore.bundle import Bundle
from mlcore.engine import Final, Partial
from mlcore.errors import InvalidInput
from mlcore.predictor import Predictor, close
from mlcore.subwords import SubwordTokenizer
from mlcore.task import Product
from mlcore.training.translation import pad, scored_translations, translation_loss
from tests.translator import KNOWN, make_translator

SPEC = task.get("translation")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A model that has learned KNOWN by heart."""
    return Predictor(make_translator(tmp_path_factory.mktemp("translator")))


def answer(predictor: Predictor, text: str, **options: Any) -> dict[str, Any]:
    (found,) = predictor.predict([{"text": text}], {"source": "de", "target": "en", **options})
    return found["output"] if "output" in found else found["error"]


def test_a_translation_is_scored_by_its_log_probability_a_token(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = predictor.model, SubwordTokenizer(predictor.bundle.read("tokenizer.model"))
    monkeypatch.setattr(model, "config", replace(model.config, coverage_penalty=0.0))
    german = KNOWN[0][0]
    ((text, score),) = scored_translations(model, tokenizer, [german], "de", "en", beam_size=1)
    symbol, eos = tokenizer.language_id("en"), tokenizer.eos_id
    source, target = (pad([[symbol, *tokenizer.encode(side), eos]]) for side in (german, text))
    batch = {"source": source, "lengths": (source != 0).sum(dim=1), "target": target}
    with torch.inference_mode():
        loss = translation_loss(model, batch, label_smoothing=0.0)
    assert score == pytest.approx(-float(loss), rel=1e-3)


def test_what_it_learned_comes_out_with_words_in_their_places(predictor: Predictor) -> None:
    for german, english in KNOWN:
        output = answer(predictor, german)
        assert output["translation_text"] == english
        (segment,) = output["segments"]
        for side in ("source", "target"):
            for token in segment[f"{side}_tokens"]:
                assert segment[side][token["start"] : token["end"]] == token["text"]
        assert len(segment["attention"]) == len(segment["target_tokens"])
        assert all(len(row) == len(segment["source_tokens"]) for row in segment["attention"])


def test_layout_stays(predictor: Predictor) -> None:
    (one, translated), (two, also), *_ = KNOWN
    output = answer(predictor, f"# {one}\n\n  - {two}\n1999\n")
    assert output["translation_text"] == f"# {translated}\n\n  - {also}\n1999\n"


def test_parts_stream_and_the_last_is_final(predictor: Predictor) -> None:
    text = " ".join(german for german, _ in KNOWN) * 12
    engine = predictor.engine(1)
    item = predictor.prepare({"text": text}, {"source": "de", "target": "en"})
    engine.add("job", item)
    seen: list[int] = []
    while engine.rows:
        ((_, event),) = engine.step()
        if isinstance(event, Partial):
            seen += event.parts
            assert (event.done, event.total) == (len(seen), len(item.parts or ()))
    assert isinstance(event, Final)
    assert seen == list(range(len(seen)))
    assert 0 < len(seen) < len(item.parts or ())


def test_a_short_text_overtakes_a_long_one(predictor: Predictor) -> None:
    engine = predictor.engine(4)
    options = {"source": "de", "target": "en"}
    engine.add("long", predictor.prepare({"text": (KNOWN[0][0] + " ") * 200}, options))
    engine.step()
    engine.add("short", predictor.prepare({"text": KNOWN[1][0]}, options))
    assert {key: type(event) for key, event in engine.step()} == {"long": Partial, "short": Final}


def test_mixed_directions_and_lengths_answer_as_alone(tiny_bundles: dict[str, Bundle]) -> None:
    predictor = Predictor(tiny_bundles["translation"])
    rows = [
        {"inputs": {"text": "One dog and 2 cats."}, "options": {"source": "en", "target": "de"}},
        {"inputs": {"text": "Hallo. Ein langer Satz mit vielen Wörtern."}, "options": {"source": "de", "target": "en"}},
        {"inputs": {"text": "Oui"}, "options": {"source": "fr", "target": "en", "beam_size": 2}},
        {"inputs": {"text": "See https://example.org now"}, "options": {"source": "en", "target": "es"}},
    ]
    assert close(list(predictor.predict(rows)), [next(predictor.predict([row])) for row in rows], 1e-4)


@pytest.mark.parametrize("text", ["Siehe https://example.org/x?y=1", "`code` für {name}", "👍🏽 und 3,50 um 10:30"])
def test_what_is_kept_is_kept_whatever_the_model_does(tiny_bundles: dict[str, Bundle], text: str) -> None:
    output = answer(Predictor(tiny_bundles["translation"]), text)
    for value in ("https://example.org/x?y=1", "`code`", "{name}", "👍🏽", "10:30"):
        assert (value in text) == (value in output["translation_text"])
    if "3,50" in text:
        assert "3.50" in output["translation_text"]


def test_a_glossary_is_obeyed(tiny_bundles: dict[str, Bundle]) -> None:
    output = answer(Predictor(tiny_bundles["translation"]), "Der Hund schläft", glossary=[["Hund", "hound"]])
    assert "hound" in output["translation_text"]


def test_capitals_stay_capitals(predictor: Predictor) -> None:
    assert answer(predictor, KNOWN[0][0].upper())["translation_text"].isupper()


@pytest.mark.parametrize(
    ("text", "options", "field", "words"),
    [
        ("Hallo", {"source": "de", "target": "de"}, "target", "already"),
        ("Hallo", {"source": "de", "target": "fr"}, "target", "English first"),
        ("Hallo", {"source": "xx"}, "source", "Choose one of"),
        ("  \n", {"source": "de"}, "text", "nothing to translate"),
        ("!!! 😀 ...", {"source": "de"}, "text", "no words"),
        ("12345", {}, "text", "no words"),
        ("a" * 100_000, {"source": "de"}, "text", "at most 20,000"),
        ("half \ud83d", {"source": "de"}, "text", "surrogate"),
        ("Dzień dobry, jak się pan dzisiaj miewa?", {}, "source", "Polish"),
        ("ok", {}, "source", "Not sure"),
        (
            "The weather is nice today, so we walk in the park for an hour. Das Wetter ist heute wirklich sehr schön.",
            {"target": "de"},
            "source",
            "mixes",
        ),
        ("This is English already, is it not?", {"target": "en"}, "source", "already"),
        ("Hallo", {"source": "de", "glossary": [["a"]]}, "glossary[0]", "pair"),
        ("Hallo", {"source": "de", "glossary": [["a", "b"], ["a", "c"]]}, "glossary[1]", "twice"),
    ],
)
def test_bad_input_is_refused_in_words(
    predictor: Predictor, text: str, options: dict[str, Any], field: str, words: str
) -> None:
    (found,) = predictor.predict([{"text": text}], options)
    assert found["error"]["field"] == field
    assert words in found["error"]["message"]


def test_one_word_of_5000_letters_is_left_alone(predictor: Predictor) -> None:
    word = "ab" * 2_500
    assert word in answer(predictor, f"Hallo {word}")["translation_text"].replace("\n", "")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is the station?", "en"),
        ("Wo ist denn hier der Bahnhof?", "de"),
        ("Où est la gare, s'il vous plaît ?", "fr"),
        ("¿Dónde está la estación de tren?", "es"),
    ],
)
def test_languages_are_told_apart(text: str, code: str) -> None:
    assert languages.detect(text).code == code


def test_a_document_becomes_a_document(predictor: Predictor, tmp_path: Path) -> None:
    (german, english), *_ = KNOWN
    path = tmp_path / "brief.md"
    path.write_text(f"# {german}\n\n- {german}\n", encoding="utf-8")
    (found,) = predictor.predict([{"document": str(path)}], {"source": "de", "target": "en"})
    product = found["output"]["document"]["file"]
    assert isinstance(product, Product)
    assert product.name == "brief.en.md"
    assert product.data.decode() == f"# {english}\n\n- {english}\n"
    assert found["output"]["segments"] == []


def test_text_and_document_together_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not both"):
        SPEC.clean({"text": "Hallo", "document": "x.txt"}, {"source": "de"})
    assert SPEC.queue_of({"text": "", "document": "x"}) == "slow"


def test_words_in_what_stands_before_a_sentence_are_none_of_its_words() -> None:
    token = {"text": "the", "start": 0, "end": 3}
    segment = {
        **{"before": "https://a.com/the-list\n", "source": "der", "target": "the", "score": 0.0, "alternatives": []},
        **{"source_tokens": [{"text": "der", "start": 0, "end": 3}], "target_tokens": [token], "attention": [[1.0]]},
    }
    text = "https://a.com/the-list\nthe"
    cells = SPEC.strip({}, {"translation_text": text, "segments": [segment]}).cells
    assert [(text[cell.start : cell.end], cell.detail) for cell in cells] == [
        ("https://a.com/the-list", "kept as it is"),
        ("the", "from “der”"),
    ]


def test_words_without_an_origin_are_part_of_their_sentence() -> None:
    tokens = [{"text": "The", "start": 0, "end": 3}, {"text": "hidden", "start": 3, "end": 3}]
    segment = {
        **{"before": "- ", "source": "Der Hund", "target": "The dog barks", "score": 0.0, "alternatives": []},
        **{"source_tokens": [{"text": "Der", "start": 0, "end": 3}], "target_tokens": tokens},
        "attention": [[1.0], [0.0]],
    }
    cells = SPEC.strip({}, {"translation_text": "- The dog barks\n\n* * *", "segments": [segment]}).cells
    assert [(cell.part, cell.step) for cell in cells] == [
        *[(None, None), (0, 0), (0, None), (0, None)],
        *[(None, None)] * 3,
    ]


def test_a_wrapped_sentence_that_comes_again_is_found_where_it_stands() -> None:
    def segment(before: str) -> dict[str, Any]:
        tokens = [{"text": "one", "start": 0, "end": 3}, {"text": "two", "start": 4, "end": 7}]
        source = [{"text": "eins", "start": 0, "end": 4}, {"text": "zwei", "start": 5, "end": 9}]
        found = {"before": before, "source": "eins zwei", "target": "one two", "source_tokens": source}
        return {**found, "target_tokens": tokens, "attention": [[1.0, 0.0], [0.0, 1.0]]}

    text = "one\r\n two\n\none two"
    cells = SPEC.strip({}, {"translation_text": text, "segments": [segment(""), segment("\n\n")]}).cells
    assert [(text[cell.start : cell.end], cell.part) for cell in cells] == [
        *[("one", 0), ("two", 0), ("one", 1), ("two", 1)],
    ]


@pytest.mark.parametrize("pairs", [[["x=1", "x=1"]], [["a", "b=c"]], [["a", "a"], ["b", "c d"]]])
def test_a_glossary_comes_back_from_its_lines(pairs: list[list[str]]) -> None:
    field = SPEC.options["glossary"]
    assert field.parse(field.show(pairs)) == pairs


def test_what_needs_no_model_comes_out_as_in_a_sentence(predictor: Predictor) -> None:
    glossary = [["my_var", "meine_var"], ["@team", "@mannschaft"]]
    text = "Der Hund.\n- my_var\n- @team"
    assert answer(predictor, text, glossary=glossary)["translation_text"].endswith("\n- meine_var\n- @mannschaft")


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([["Dog", "Hund"], ["dog", "Köter"]], "twice"),
        ([["a\x07", "b"]], "control character"),
        ([["a\u2028", "b\u2029c"]], "line break"),
        ([["a", " "]], "1 to 100"),
    ],
)
def test_a_glossary_that_cannot_be_followed_is_refused(pairs: list[list[str]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        SPEC.clean({"text": "x"}, {"source": "de", "target": "en", "glossary": pairs})
