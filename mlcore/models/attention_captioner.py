"""One to many: a CNN encoder, and an LSTM decoder that looks at the photo for each word.

After Show, Attend and Tell (Xu et al. 2015, https://arxiv.org/abs/1502.03044): additive attention over the places of
the last feature map, a gate on the context, doubly stochastic attention. Otherwise than there, attention stands
between two LSTM layers, as in Anderson et al. 2018 (https://arxiv.org/abs/1707.07998) without the upper layer feeding
back: the lower one reads words only, so it can learn English from captions without photos, and all steps of a known
caption are computed at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcore import decoding
from mlcore.batching import Batch
from mlcore.models import cnn
from mlcore.models.attention import Look, PlaceAttention
from mlcore.models.recurrent import LSTM, LockedDropout, project

State = tuple[Tensor, Tensor, Tensor, Tensor]  # h and c (1, B, H) of the lower and of the upper layer


@dataclass(frozen=True)
class Config:
    """Everything that the constructor needs; stored as it is in a bundle's config.json."""

    vocab_size: int
    blocks: tuple[tuple[int, int, int, int], ...] = cnn.LITE2
    stem_dim: int = 32
    feature_dim: int = 1280
    image_size: int = 224
    embed_dim: int = 320
    hidden_dim: int = 512
    attention_dim: int = 320
    dropout: float = 0.3
    feature_dropout: float = 0.2
    bos_id: int = 2
    eos_id: int = 3
    beam_size: int = 5
    length_penalty: float = 0.7
    block_ngram: int = 2  # no run of so many words comes twice
    max_words: int = 24
    diversity: float = 0.8
    candidates: int = 3  # captions decoded apart at least: the answer, and alternatives to choose from


class Model(nn.Module):
    """images (B, 3, S, S), tokens (B, T) -> logits (B, T, V)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = cnn.encoder_of(config)
        self.decoder = Decoder(config)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Teacher forcing: tokens start with bos; logits[:, t] name the token after tokens[:, t]."""
        hidden, _ = self.decoder(self.encoder(images), tokens)
        return self.decoder.logits(hidden)

    def predict(self, batch: Batch, options: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
        """The best caption of each photo and others that differ, with attention (T, P) for each token."""
        config = self.config
        chosen = options[0] if options else {}  # batch-scoped: the same in all rows
        wanted = chosen.get("num_alternatives", 1)
        with torch.inference_mode():
            features = self.encoder(batch["images"])
            found = decoding.diverse_beam_search(
                self.decoder.start(features),
                self.decoder.step,
                bos_id=config.bos_id,
                eos_id=config.eos_id,
                groups=max(config.candidates, wanted + 1) if wanted else 1,
                beam_size=chosen.get("beam_size") or config.beam_size,
                max_length=chosen.get("max_words") or config.max_words,
                length_penalty=config.length_penalty,
                block_ngram=config.block_ngram,
                diversity=config.diversity,
                fixed=("places", "keys"),
            )
            answers = []
            for row, candidates in enumerate(found):
                best = candidates[0]
                tokens = torch.tensor([[config.bos_id, *best.tokens]], device=features.device)
                _, attention = self.decoder(features[row : row + 1], tokens)
                answers.append(
                    {
                        "candidates": [(c.tokens, c.score) for c in candidates],
                        "attention": attention[0, : len(best.tokens)].tolist(),
                    }
                )
        return answers


class Decoder(nn.Module):
    """Words and looks: a word LSTM, attention asked by it, and an LSTM over words and what was seen."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim, padding_idx=0)
        self.words = LSTM(config.embed_dim, hidden)
        self.attention = PlaceAttention(
            config.feature_dim, hidden, config.attention_dim, dropout=config.feature_dropout
        )
        self.unseen = nn.Parameter(torch.zeros(hidden))  # the context of a caption without its photo
        self.seen = LSTM(2 * hidden, hidden)
        self.out = nn.Linear(2 * hidden, config.embed_dim)  # upper hidden state and context -> the embedding's width
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.dropout = LockedDropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def forward(
        self, features: Tensor | None, tokens: Tensor, state: State | None = None, look: Look | None = None
    ) -> tuple[Tensor, Tensor]:
        """features (B, P, F) or none, tokens (B, T) -> (B, T, E) for `logits`, and attention (B, T, P)."""
        places = look or (self.attention.look(features) if features is not None else None)
        found, attention, _ = self._run(places, tokens, state)
        return found, attention

    def _run(self, look: Look | None, tokens: Tensor, state: State | None) -> tuple[Tensor, Tensor, State]:
        lower = (state[0], state[1]) if state else None
        upper = (state[2], state[3]) if state else None
        hidden, (h1, c1) = self.words(self.dropout(self.embedding(tokens)), lower)
        hidden = self.dropout(hidden)
        if look is None:
            context = self.unseen.expand_as(hidden)
            attention = hidden.new_zeros(*tokens.shape, 0)
        else:
            context, attention = self.attention(hidden, look)
        top, (h2, c2) = self.seen(torch.cat([hidden, context], dim=-1), upper)
        found = self.out(self.dropout(torch.cat([top, context], dim=-1)))
        return found, attention, (h1, c1, h2, c2)

    def logits(self, found: Tensor) -> Tensor:
        """(..., E) -> (..., V), with the embedding as output layer (Press & Wolf 2017)."""
        return project(found, self.embedding.weight, self.bias)

    def start(self, features: Tensor) -> decoding.State:
        """What a search carries for each row before the first word; rows come first in every tensor."""
        places, keys = self.attention.look(features)
        zero = features.new_zeros(features.shape[0], self.config.hidden_dim)
        return {"places": places, "keys": keys, "h1": zero, "c1": zero, "h2": zero, "c2": zero}

    def step(self, tokens: Tensor, state: decoding.State) -> tuple[Tensor, decoding.State]:
        """tokens (N,) -> log-probabilities (N, V) of the next ones, and the new state."""
        recurrent = tuple(state[name][None].contiguous() for name in ("h1", "c1", "h2", "c2"))
        found, _, after = self._run((state["places"], state["keys"]), tokens[:, None], recurrent)  # type: ignore[arg-type]
        new = dict(zip(("h1", "c1", "h2", "c2"), (part[0] for part in after), strict=True))
        return self.logits(found[:, 0]).log_softmax(dim=-1), {**state, **new}
