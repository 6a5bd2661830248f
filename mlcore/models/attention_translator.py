"""Many to many: a BiLSTM encoder and an LSTM decoder that looks at the source for each word.

After Bahdanau et al. 2015 (https://arxiv.org/abs/1409.0473) and Luong et al. 2015 (https://arxiv.org/abs/1508.04025),
with residuals, layer norm and several attention heads as in Chen et al. 2018 (https://arxiv.org/abs/1804.09849).
Attention is asked by the lower decoder layer and read by the upper one (Wu et al. 2016,
https://arxiv.org/abs/1609.08144): nothing feeds back but the layers' own states, so all steps of a known translation
are computed at once. One model serves all directions: a symbol before the source names the target language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcore import beam
from mlcore.batching import Batch
from mlcore.decoding import Hypothesis, State
from mlcore.models.recurrent import LSTM, LockedDropout, length_mask, project, reverse_within_length

Recurrent = tuple[Tensor, Tensor, Tensor, Tensor]  # h and c (1, B, H) of the lower and of the upper layer
Memory = tuple[Tensor, Tensor, Tensor]  # values and keys (B, S, H) of the source, mask (B, S)


@dataclass(frozen=True)
class Config:
    """Everything that the constructor needs; stored as it is in a bundle's config.json."""

    vocab_size: int
    languages: tuple[str, ...]
    language_ids: tuple[int, ...]  # the symbol of each language
    mark_ids: tuple[int, ...] = ()  # symbols that are carried over, each as often as it stands in the source
    embed_dim: int = 384
    encoder_dim: int = 320  # of one direction
    hidden_dim: int = 640
    encoder_layers: int = 2
    heads: int = 4
    dropout: float = 0.2
    embed_dropout: float = 0.1
    word_dropout: float = 0.05  # source tokens hidden in training
    eos_id: int = 3
    beam_size: int = 5
    length_penalty: float = 0.8
    coverage_penalty: float = 0.1


class Model(nn.Module):
    """source (B, S), lengths (B,), target (B, T) -> (B, T, E) for `logits`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim, padding_idx=0)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.embed_dropout = LockedDropout(config.embed_dropout)
        nn.init.normal_(self.embedding.weight, std=config.embed_dim**-0.5)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Recurrent]:
        """source (B, S) begins with the language symbol -> what the decoder looks at, and its first state."""
        if self.training and self.config.word_dropout:
            keep = torch.rand(source.shape, device=source.device) >= self.config.word_dropout
            keep[:, 0] = True
            source = torch.where(keep, source, torch.ones_like(source))  # 1 is unk
        mask = length_mask(lengths, source.shape[1])
        hidden = self.encoder(self.embed_dropout(self.embedding(source)), lengths)  # (B, S, 2H)
        return self.decoder.remember(hidden, mask), self.decoder.first_state(hidden, mask)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: target begins with the language symbol; row t is for the token after target[:, t]."""
        memory, state = self.encode(source, lengths)
        found: Tensor = self.decoder(self.embed_dropout(self.embedding(target)), memory, state)[0]
        return found

    def logits(self, found: Tensor) -> Tensor:
        """(..., E) -> (..., V), with the embedding as output layer (Press & Wolf 2017)."""
        return project(found, self.embedding.weight, self.bias)

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Where each token of a known target looks, (B, T, S): the mean over heads; row t is of target[:, t + 1]."""
        memory, state = self.encode(source, lengths)
        attention: Tensor = self.decoder(self.embedding(target), memory, state)[1]
        return attention

    def start(self, source: Tensor, lengths: Tensor) -> State:
        """What a search carries for each row before the first token."""
        (values, keys, mask), state = self.encode(source, lengths)
        carried = dict(zip(("h1", "c1", "h2", "c2"), (part[0] for part in state), strict=True))
        return {
            "values": values,
            "keys": keys,
            "mask": mask,
            "seen": torch.zeros_like(mask, dtype=values.dtype),
            **carried,
        }

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) -> log-probabilities (N, V) of the next ones, and the new state; `seen` sums the attention."""
        recurrent = tuple(state[name][None].contiguous() for name in ("h1", "c1", "h2", "c2"))
        memory = (state["values"], state["keys"], state["mask"])
        found, attention, after = self.decoder(self.embedding(tokens[:, None]), memory, recurrent)  # type: ignore[arg-type]
        new = dict(zip(("h1", "c1", "h2", "c2"), (part[0] for part in after), strict=True))
        log_p = self.logits(found[:, 0]).log_softmax(dim=-1)
        return log_p, {**state, **new, "seen": state["seen"] + attention[:, 0]}

    def predict(self, batch: Batch, options: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
        """For each row hypotheses (tokens, score), the best first, and its attention (T, S)."""
        config = self.config
        source, lengths = batch["source"], batch["lengths"]
        chosen = options[0] if options else {}  # batch-scoped: the same in all rows
        beam_size = chosen.get("beam_size") or config.beam_size
        with torch.inference_mode():
            found = self.translate(source, lengths, beam_size=beam_size)
            rows = [hypotheses[0].tokens for hypotheses in found]
            longest = max(map(len, rows))
            target = torch.zeros(len(rows), 1 + longest, dtype=torch.long)
            target[:, 0] = source[:, 0].cpu()
            for row, tokens in zip(target, rows, strict=True):
                row[1 : 1 + len(tokens)] = torch.tensor(tokens)
            attention = self.attention(source, lengths, target.to(source.device))
        return [
            {
                "hypotheses": [(h.tokens, h.score) for h in hypotheses],
                "attention": attention[i, : len(rows[i]), : int(lengths[i])].tolist(),
            }
            for i, hypotheses in enumerate(found)
        ]

    def translate(self, source: Tensor, lengths: Tensor, *, beam_size: int) -> list[list[Hypothesis]]:
        """Search translations of source (B, S); marks are carried over, each as often as it stands there."""
        config = self.config
        budget = None
        if config.mark_ids:
            marks = torch.tensor(config.mark_ids, device=source.device)
            budget = (source[:, :, None] == marks).sum(dim=1)  # (B, M)
        return beam.search(
            self.start(source, lengths),
            self.step,
            first=source[:, 0],
            eos_id=config.eos_id,
            beam_size=beam_size,
            max_lengths=(lengths * 2 + 12).tolist(),
            length_penalty=config.length_penalty,
            coverage_penalty=config.coverage_penalty,
            forbidden=(0, 1, 2, *config.language_ids),
            counted=config.mark_ids,
            budget=budget,
            fixed=("values", "keys", "mask"),
        )


class Encoder(nn.Module):
    """BiLSTM layers, each seeing both directions of the one below; residuals between them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = 2 * config.encoder_dim
        sizes = [config.embed_dim, *[width] * (config.encoder_layers - 1)]
        self.ahead, self.back = (nn.ModuleList(LSTM(size, config.encoder_dim) for size in sizes) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in sizes)
        self.dropout = LockedDropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, S, E) -> (B, S, 2H)."""
        for number, (ahead, back, norm) in enumerate(zip(self.ahead, self.back, self.norms, strict=True)):
            forth, _ = ahead(x)
            reverse, _ = back(reverse_within_length(x, lengths))
            both = torch.cat([forth, reverse_within_length(reverse, lengths)], dim=-1)
            both = self.dropout(norm(both))
            x = x + both if number else both
        return x


class Decoder(nn.Module):
    """A layer over words, attention asked by it, and a layer over words and what was seen."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden, source = config.hidden_dim, 2 * config.encoder_dim
        self.heads = config.heads
        self.words = LSTM(config.embed_dim, hidden)
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(source, hidden)
        self.value = nn.Linear(source, hidden)
        self.seen = LSTM(2 * hidden, hidden)
        self.first = nn.Linear(source, 2 * hidden)
        self.norm_words, self.norm_seen = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.out = nn.Linear(2 * hidden, config.embed_dim)
        self.dropout = LockedDropout(config.dropout)

    def remember(self, hidden: Tensor, mask: Tensor) -> Memory:
        """hidden (B, S, 2H) -> values and keys: the same for every step."""
        return self.value(hidden), self.key(hidden), mask

    def first_state(self, hidden: Tensor, mask: Tensor) -> Recurrent:
        """The first hidden states from the mean of the source; cells begin at zero."""
        mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        lower, upper = self.first(mean).tanh()[None].chunk(2, dim=-1)
        return lower.contiguous(), torch.zeros_like(lower), upper.contiguous(), torch.zeros_like(upper)

    def look(self, hidden: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """hidden (B, T, H) -> context (B, T, H) and attention (B, T, S), the mean over heads."""
        values, keys, mask = memory

        def split(x: Tensor) -> Tensor:
            return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, ., H / heads)

        query, key, value = split(self.query(hidden)), split(keys), split(values)
        energy = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5  # (B, heads, T, S)
        weights = energy.masked_fill(~mask[:, None, None], float("-inf")).float().softmax(dim=-1)
        context = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return context, weights.mean(dim=1)

    def forward(self, x: Tensor, memory: Memory, state: Recurrent) -> tuple[Tensor, Tensor, Recurrent]:
        """x (B, T, E) -> (B, T, E) for the output layer, attention (B, T, S) and the new state."""
        hidden, (h1, c1) = self.words(x, (state[0], state[1]))
        hidden = self.dropout(self.norm_words(hidden))
        context, attention = self.look(hidden, memory)
        top, (h2, c2) = self.seen(torch.cat([hidden, context], dim=-1), (state[2], state[3]))
        top = self.dropout(self.norm_seen(top)) + hidden
        return self.out(torch.cat([top, context], dim=-1)), attention, (h1, c1, h2, c2)
