"""A toy translator that has learned a few sentences by heart, for tests that read what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mlcore import task
from mlcore.bundle import Bundle
from mlcore.models.attention_translator import Model
from mlcore.subwords import SubwordTokenizer
from mlcore.training.parallel_text import LANGUAGES, Pair
from mlcore.training.publish import finish, write_bundle
from mlcore.training.recipes import translation as recipe
from mlcore.training.translation import PairBatches, translate, translation_loss

KNOWN = [
    ("Der Hund schläft im Garten.", "The dog sleeps in the garden."),
    ("Wir gehen heute ins Kino.", "We go to the cinema today."),
    ("Wo ist der Bahnhof?", "Where is the station?"),
]


def _knows(model: Model, tokenizer: SubwordTokenizer) -> bool:
    german, english = ([pair[side] for pair in KNOWN] for side in (0, 1))
    there = translate(model, tokenizer, german, "de", "en", beam_size=2)
    back = translate(model, tokenizer, english, "en", "de", beam_size=2)
    return there == english and back == german


def make_translator(folder: Path) -> Bundle:
    """Train on KNOWN, both ways, until it knows them; seconds."""
    pairs = [Pair("de", english, german) for german, english in KNOWN]
    words = [side for pair in pairs for side in (pair.english, pair.other)]
    tokenizer = SubwordTokenizer.train(words * 20, languages=LANGUAGES, vocab_size=380)
    torch.manual_seed(1)
    sizes = {**recipe.SIZES["tiny"].model, "embed_dim": 32, "encoder_dim": 32, "hidden_dim": 64}
    sizes |= {"dropout": 0.0, "embed_dropout": 0.0, "word_dropout": 0.0}
    model = Model(recipe._config(replace(recipe.SIZES["tiny"], model=sizes), tokenizer))
    # no sampled pieces: sentencepiece draws them from a state of its own, and then a run in fifty does not learn
    batches = PairBatches({"toy": pairs}, {"toy": 1.0}, tokenizer, tokens_per_batch=[2_000], seed=1, sampled=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for epoch in range(600):
        for batch in batches.epoch(epoch, skip=0):
            loss = translation_loss(model.train(), batch, label_smoothing=0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 20 == 19 and _knows(model.eval(), tokenizer):
            break
    assert _knows(model.eval(), tokenizer), "the toy did not learn its sentences"
    files = {"tokenizer.model": tokenizer.model}
    manifest = {
        **{"task": "translation", "variant": task.get("translation").default_variant, "version": 1},
        **{"model": recipe.MODEL, "preprocessing": {}, "licence": "for tests"},
    }
    draft = write_bundle(folder / "draft", model.eval(), manifest=manifest, files=files)
    extra = {"card.md": b"# A toy\n", "metrics.json": b"{}"}
    return finish(draft, folder / "bundle", model, extra=extra)
