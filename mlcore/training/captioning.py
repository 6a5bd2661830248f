"""Stages of a captioner's training: English without photos, words for photos, whole captions by their reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.decoding import Hypothesis, choose_rows, diverse_beam_search
from mlcore.models.attention_captioner import Decoder
from mlcore.text import Vocabulary
from mlcore.training.caption_scores import CiderReward
from mlcore.training.data import bucket_batches
from mlcore.training.losses import blockwise_cross_entropy
from mlcore.training.photos import Photo
from mlcore.training.vision import augmentation

Batch = dict[str, Tensor]
LABEL_SMOOTHING = 0.1
COVERAGE_WEIGHT = 0.5  # of the doubly stochastic term of Xu et al. 2015


def encode(vocabulary: Vocabulary, captions: Sequence[Sequence[str]], longest: int) -> list[NDArray[np.int64]]:
    """Ids of captions between bos and eos; those over `longest` words are left out."""
    bos, eos = vocabulary.bos_id, vocabulary.eos_id
    return [np.array([bos, *vocabulary.encode(c), eos]) for c in captions if 0 < len(c) <= longest]


def pad(rows: Sequence[NDArray[np.int64]]) -> Tensor:
    """(B, T), zeros behind each row; T a multiple of 4, so that few shapes come."""
    longest = -(-max(map(len, rows)) // 4) * 4
    out = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.from_numpy(row)
    return out


class TextBatches:
    """Captions without photos, in batches of like length."""

    def __init__(self, captions: list[NDArray[np.int64]], *, tokens_per_batch: int, seed: int) -> None:
        self.captions, self.tokens_per_batch, self.seed = captions, tokens_per_batch, seed

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of tokens (B, T)."""
        batches = bucket_batches(
            [len(row) for row in self.captions],
            tokens_per_batch=self.tokens_per_batch,
            max_rows=512,
            generator=np.random.default_rng([self.seed, number]),
        )
        for indices in batches[skip:]:
            yield {"tokens": pad([self.captions[i] for i in indices])}


class PhotoBatches:
    """Photos with all their captions: features are looked at once for all of a photo's captions."""

    def __init__(
        self, features: NDArray[np.float16], captions: list[list[NDArray[np.int64]]], *, photos: int, seed: int
    ) -> None:
        self.features, self.captions, self.photos, self.seed = features, captions, photos, seed

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of features (P, places, F), index (B,) of each caption's photo, tokens (B, T), and photo (P,)."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation([i for i, rows in enumerate(self.captions) if rows])
        views = generator.integers(self.features.shape[1], size=len(self.captions))
        starts = range(skip * self.photos, len(order) - self.photos + 1, self.photos)
        for start in starts:
            chosen = order[start : start + self.photos]
            rows = [(place, row) for place, photo in enumerate(chosen) for row in self.captions[photo]]
            yield {
                "features": torch.from_numpy(
                    np.stack([self.features[photo, views[photo]] for photo in chosen]).astype(np.float32)
                ),
                "index": torch.tensor([place for place, _ in rows]),
                "tokens": pad([row for _, row in rows]),
                "photo": torch.from_numpy(chosen),
            }


class PixelBatches:
    """As PhotoBatches, with augmented pixels in place of features."""

    def __init__(
        self, photos: Sequence[Photo], captions: list[list[NDArray[np.int64]]], *, per_batch: int, seed: int, side: int
    ) -> None:
        nothing = np.zeros((len(photos), 1, 1, 1), dtype=np.float16)
        self.inner = PhotoBatches(nothing, captions, photos=per_batch, seed=seed)
        self.photos, self.side = photos, side
        self.augment = augmentation(self.side)

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches with images (P, 3, S, S), uint8."""
        for batch in self.inner.epoch(number, skip=skip):
            pixels = [torch.from_numpy(self.photos[int(i)].pixels(self.side).copy()) for i in batch["photo"]]
            batch["images"] = torch.stack([self.augment(image) for image in pixels])
            del batch["features"]
            yield batch


def caption_loss(
    decoder: Decoder,
    batch: Batch,
    features: Tensor | None = None,
    *,
    label_smoothing: float = LABEL_SMOOTHING,
    coverage_weight: float = COVERAGE_WEIGHT,
) -> Tensor:
    """Cross-entropy a word, label-smoothed, and the wish that every place be looked at once in a caption."""
    tokens = batch["tokens"]
    features = batch.get("features") if features is None else features
    look = None
    if features is not None:
        places, keys = decoder.attention.look(features)
        look = (places[batch["index"]], keys[batch["index"]])
    found, attention = decoder(None, tokens[:, :-1], look=look)
    goal = tokens[:, 1:]
    real = goal.flatten().nonzero()[:, 0]
    loss = blockwise_cross_entropy(
        found.flatten(0, 1)[real],
        decoder.embedding.weight,
        decoder.bias,
        goal.flatten()[real],
        label_smoothing=label_smoothing,
    ) / len(real)
    if look is not None:
        seen = (attention * (goal != 0)[..., None]).sum(dim=1)  # (B, P)
        loss = loss + coverage_weight * (1 - seen).square().mean()
    return loss


def nats_per_word(decoder: Decoder, batches: Sequence[Tensor]) -> float:
    """Mean cross-entropy of captions without photos, each batch tokens (B, T)."""
    total, count = 0.0, 0
    for tokens in batches:
        found, _ = decoder(None, tokens[:, :-1])
        log_p = decoder.logits(found).log_softmax(dim=-1).gather(2, tokens[:, 1:, None])[..., 0]
        real = tokens[:, 1:] != 0
        total, count = total - float((log_p * real).sum()), count + int(real.sum())
    return total / count


def _allowed(scores: Tensor, eos_id: int, *, first: bool) -> Tensor:
    """Scores (B, T, V) of tokens that may be drawn: no padding, unknown word or bos, and no end at the very start."""
    scores = scores.index_fill(2, torch.arange(3, device=scores.device), -torch.inf)
    if first:
        scores[:, 0, eos_id] = -torch.inf
    return scores


def sample(decoder: Decoder, features: Tensor, *, each: int, longest: int) -> Tensor:
    """`each` captions a photo drawn from the decoder: (P * each, T) with bos before and eos behind, zeros after."""
    config = decoder.config
    with torch.no_grad():
        state = choose_rows(decoder.start(features), torch.arange(len(features)).repeat_interleave(each))
        tokens = [torch.full((len(features) * each,), config.bos_id)]
        ended = torch.zeros(len(features) * each, dtype=torch.bool)
        for step in range(longest + 1):
            log_p, state = decoder.step(tokens[-1].clamp(min=1), state)
            allowed = _allowed(log_p[:, None], config.eos_id, first=step == 0)[:, 0]
            drawn = torch.multinomial(allowed.softmax(dim=-1), 1)[:, 0]
            drawn = torch.where(ended, 0, drawn)
            tokens.append(drawn)
            ended |= drawn == config.eos_id
            if bool(ended.all()):
                break
    return torch.stack(tokens, dim=1)


class SelfCritical:
    """The loss of self-critical training (Rennie et al. 2017, https://arxiv.org/abs/1612.00563).

    Probabilities are taken over the tokens that may be drawn. Over all of them, whatever is taken from a bad sample's
    tokens flows to those that are never drawn and so never punished, and the policy that is pushed parts from the one
    that answers.

    The baseline of each sample is the mean reward of the photo's other samples (Luo 2020,
    https://arxiv.org/abs/2003.09971), so no second search is needed.
    """

    def __init__(self, reward: CiderReward, vocabulary: Vocabulary, *, each: int = 5, longest: int = 20) -> None:
        self.reward, self.vocabulary, self.each, self.longest = reward, vocabulary, each, longest

    def __call__(self, decoder: Decoder, batch: Batch) -> Tensor:
        """Scalar loss of a batch of features and photo numbers."""
        decoder.eval()  # without dropout: what is drawn and what is pushed must be the same policy
        tokens = sample(decoder, batch["features"], each=self.each, longest=self.longest)
        rewards = torch.tensor(
            [
                self.reward(int(photo), self.vocabulary.decode(tokens[row].tolist()))
                for row, photo in enumerate(batch["photo"].repeat_interleave(self.each))
            ]
        ).view(-1, self.each)
        baseline = (rewards.sum(dim=1, keepdim=True) - rewards) / (self.each - 1)
        advantage = (rewards - baseline).flatten()
        places, keys = decoder.attention.look(batch["features"])
        index = torch.arange(len(places)).repeat_interleave(self.each)
        found, _ = decoder(None, tokens[:, :-1], look=(places[index], keys[index]))
        goal = tokens[:, 1:]
        policy = _allowed(decoder.logits(found).float(), decoder.config.eos_id, first=True).log_softmax(dim=-1)
        real = goal != 0
        log_p = torch.where(real, policy.gather(2, goal[..., None])[..., 0], 0.0)
        return -(advantage[:, None] * log_p).sum() / real.sum()


def search(decoder: Decoder, features: Tensor, *, beam_size: int) -> list[Hypothesis]:
    """The best caption of each photo; features (N, P, F)."""
    config = decoder.config
    found: list[Hypothesis] = []
    with torch.inference_mode():
        for part in features.split(64):
            rows = diverse_beam_search(
                decoder.start(part),
                decoder.step,
                bos_id=config.bos_id,
                eos_id=config.eos_id,
                beam_size=beam_size,
                max_length=config.max_words,
                length_penalty=config.length_penalty,
                block_ngram=config.block_ngram,
                fixed=("places", "keys"),
            )
            found += [row[0] for row in rows]
    return found
