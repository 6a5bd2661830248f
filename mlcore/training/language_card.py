"""The card of text-generation/voices, written from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcore.metrics import markdown_table
from mlcore.predictor import Predictor
from mlcore.tasks.text_generation import VOICES
from mlcore.training import cards
from mlcore.training.language_evaluation import table
from mlcore.training.run import Run

_PROMPTS = ("", "The door opened, and")
_AIMS = """\
Aimed at, in brackets what @2 has: 1.35 bits a character over all voices (1.470), 1.47 nats on tinyshakespeare (1.487). 8.7 M
parameters have read each text some five times without dropout to speak of and learn as long as the rate is not low: a larger
model is what lacks. `--size large` grows two layers into this one; its 12,000 steps are some nine hours on two cores without
AMX (two and a half with), and were not run. For tinyshakespeare more steps with more dropout were not tried."""
_SHORT_RUNS = """\
On two cores, before and during the first run; the first two from the same weights after 1.4 M tokens:

| tried | found |
|---|---|
| Muon (Jordan 2024; `torch.optim.Muon`, rate 0.02, windows of 64) for the LSTM's matrices | after 2.6 minutes 5.10 nats a token, AdamW at 2.5e-3 with windows of 32 5.05: not kept |
| a step that sums over 2,048 of the 8,000 pieces: 768 symbols, bytes and frequent ones, all targets, the rest drawn | gradient's cosine to the whole one's 0.996 and more (embedding 0.964), another batch's 0.2 to 0.7; 7,300 tokens/s in place of 5,000: kept |
| a continuous cache of 512, 1,024, 2,048 tokens, on held-out Sherlock Holmes, reviews, novels after 12 M tokens, without it 1.494, 1.796, 1.698 bits | 1.479, 1.766, 1.644; 1.475, 1.768, 1.634; 1.473, 1.770, 1.631 with the best of 16 shares and sharpnesses each: 1,024 kept |
| share 0.1 and sharpness 0.4, or 0.06 and 0.7, on the same texts after 19 M tokens (without: 1.433, 1.721, 1.648) | 1.419, 1.704, 1.599 and 1.416, 1.701, 1.601; written with the first, texts stutter: kept are 0.07 and 0.7, less while the cache fills, the last three tokens not looked at, and candidates narrowed by the model alone |
| a share of the cache that depends on the best place's score or the model's entropy | 0.002 to 0.003 bits better: not kept |"""


def render(run: Run, predictor: Predictor, metrics: dict[str, Any], *, candidates: int) -> str:
    """The whole card, Markdown; `candidates` are the pieces that a training step summed over, 0 all of them."""
    config = predictor.bundle.config
    parameters = sum(p.numel() for p in predictor.model.parameters()) / 1e6
    parts = [
        f"# {predictor.bundle.label}",
        "Writes a text on, in one of eleven voices.",
        f"**Model.** {config['num_layers']} LSTM layers ({config['hidden_dim']} wide, the last {config['embed_dim']}), "
        f"{config['vocab_size']:,} pieces, tied embedding, {parameters:.1f} M parameters; a vector for each voice is added to "
        f"every token's; {_stored(config, metrics)}. Trained with {_dropouts(config)}{_sampled(candidates)}.{_cached(config)}",
        cards.made_by(run),
        "## Scores",
        table(metrics),
        "Bits a character: nats of all tokens of a held-out text, read as one stream with carried state, over its characters "
        "and ln 2. Held out: every twentieth chapter; every fiftieth review. Samples of these texts chose the best evaluation. The n-gram "
        "model is character-level with Witten-Bell smoothing, trained on two million characters from all over the same "
        "voice. An epoch reads every second review: they would be a third of it.",
        *_yardstick(metrics),
        "## Short runs",
        _SHORT_RUNS,
        "## Learning curve",
        "Of this run, without the cache, on samples of the held-out texts that are read in eight places each: higher than the "
        "scores.",
        markdown_table(["step", "hours", "bits/char"], cards.learning_curve(run, "train", ["bits"])),
        "## Two samples a voice",
        "Unfiltered: temperature 0.8, top-p 0.95, seed 1; the first from an empty prompt, the second from “The door opened, and”.",
        *_samples(predictor),
        "## Data and terms",
        "Books of Standard Ebooks (CC0; texts public domain in the US), 43 novels of 1895 to 1937 (computationalstylistics, "
        "texts of Project Gutenberg's kind), IMDB's unlabelled reviews (Maas et al. 2011; non-commercial research). The weights "
        "may be used for research and education, not commercially.",
        "## Known failures",
        "It loses the thread after a few sentences, invents names and facts, and repeats itself at low temperatures. Old fiction "
        "carries the prejudices of its time: a list of slurs is never written, prejudice without slurs may be. It knows "
        "English only.",
        "## Aims",
        _AIMS,
    ]
    return "\n\n".join(parts) + "\n"


def _stored(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    added = "the layers between the first and the last are added to what they read; " if config.get("residual") else ""
    if "rounding" not in metrics:
        return f"{added}float16"
    bits = metrics["rounding"]
    return (
        f"{added}matrices are int8 (samples of the held-out texts cost {bits['stored']:.4f} bits a character, "
        f"{bits['float32']:.4f} in float32)"
    )


def _dropouts(config: Mapping[str, Any]) -> str:
    names = {
        "token_dropout": "tokens",
        "embed_dropout": "embeddings",
        "dropout": "outputs",
        "weight_dropout": "weights",
    }
    used = [f"{config[name]:g} of {said}" for name, said in names.items() if config.get(name)]
    return f"dropout {', '.join(used)} (AWD-LSTM's, Merity et al. 2018)" if used else "no dropout"


def _sampled(candidates: int) -> str:
    return (
        f"; a step sums over {candidates:,} pieces of the vocabulary, the first ones, targets and a sample"
        if candidates
        else ""
    )


def _cached(config: Mapping[str, Any]) -> str:
    if not config.get("cache_size"):
        return ""
    return (
        f" A continuous cache (Grave et al. 2017) of the last {config['cache_size']:,} tokens, not trained, has a share of "
        f"{config['cache_share']:g} in each token's probability once it is full, in writing as in scoring."
    )


def _yardstick(metrics: dict[str, Any]) -> list[str]:
    if "shakespeare" not in metrics:
        return []
    nats = metrics["shakespeare"]["voices"]["tinyshakespeare"]["nats"]
    return [
        f"The same module on the characters of tinyshakespeare alone (nanoGPT's split): {nats:.4f} nats a character on its held "
        "tenth; nanoGPT's transformer of 10.7 M parameters: 1.4697."
    ]


def _samples(predictor: Predictor) -> list[str]:
    options = {"max_new_tokens": 90, "temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.0, "seed": 1}
    parts = []
    for voice in predictor.assets.voices:
        requests = [{"inputs": {"prompt": prompt}, "options": {**options, "voice": voice}} for prompt in _PROMPTS]
        for prompt, answer in zip(_PROMPTS, predictor.predict(requests), strict=True):
            text = " ".join((prompt + answer["output"]["generated_text"]).split())
            parts.append(f"**{VOICES.get(voice, voice)}.** {text}")
    return parts
