"""Searching sequences: functions of a step function and tensors, the same for every decoder.

A step function takes the last tokens (N,) and a state, and returns log-probabilities (N, V) and the new state. A state
is a dictionary of tensors whose first axis is the row, so that rows can be chosen, repeated and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Step = Callable[[Tensor, State], tuple[Tensor, State]]
_NEVER = -1e9  # finite, so that a row without any allowed token still has a best one


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without bos and eos; `score` is their log-probability over length ** penalty."""

    tokens: list[int]
    score: float


def choose_rows(state: State, rows: Tensor) -> State:
    """The state of the rows that are named, in that order; a row may be named more than once."""
    return {name: value.index_select(0, rows) for name, value in state.items()}


def _blocked(tokens: list[int], size: int) -> list[int]:
    """Tokens that would repeat a run of `size` tokens that already stands in `tokens`."""
    if size < 1 or len(tokens) < size - 1:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    return [tokens[i + size - 1] for i in range(len(tokens) - size + 1) if tuple(tokens[i : i + size - 1]) == last]


def length_factor(length: int, penalty: float) -> float:
    """What a log-probability is divided by (length ** penalty; 0 prefers short ones, 1 is the mean)."""
    return float(max(1, length) ** penalty)


def diverse_beam_search(
    state: State,
    step: Step,
    *,
    bos_id: int,
    eos_id: int,
    beam_size: int,
    max_length: int,
    groups: int = 1,
    length_penalty: float = 0.0,
    diversity: float = 0.0,
    block_ngram: int = 3,
    forbidden: Sequence[int] = (0, 1, 2),
) -> list[list[Hypothesis]]:
    """For each row the best hypothesis of each group, the first group's first.

    Groups of `beam_size` beams are searched one after another at each step; a token costs `diversity` for every beam of
    an earlier group that chose it at this step (Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424). The first
    group is plain beam search, so more groups never change the answer. No run of `block_ngram` tokens comes twice.
    """
    count = len(next(iter(state.values())))
    device = next(iter(state.values())).device
    width = groups * beam_size
    state = choose_rows(state, torch.arange(count, device=device).repeat_interleave(width))
    last = torch.full((count * width,), bos_id, device=device)
    scores = torch.full((count, groups, beam_size), _NEVER)
    scores[:, :, 0] = 0.0  # all beams of a group start alike: only the first one counts
    beams: list[list[list[list[int]]]] = [[[[] for _ in range(beam_size)] for _ in range(groups)] for _ in range(count)]
    done: list[list[list[Hypothesis]]] = [[[] for _ in range(groups)] for _ in range(count)]
    for length in range(1, max_length + 1):
        log_p, state = step(last, state)  # (count * width, V)
        log_p = log_p.float().cpu()
        log_p[:, list(forbidden)] = _NEVER
        if length == 1:
            log_p[:, eos_id] = _NEVER  # an answer has at least one token
        log_p = log_p.view(count, groups, beam_size, -1)
        vocabulary = log_p.shape[-1]
        origins = torch.zeros(count, groups, beam_size, dtype=torch.long)
        chosen = torch.zeros(count, groups, beam_size, dtype=torch.long)
        for row in range(count):
            taken = torch.zeros(vocabulary)
            for group in range(groups):
                total = scores[row, group, :, None] + log_p[row, group]  # (beam, V)
                for beam, tokens in enumerate(beams[row][group]):
                    if banned := _blocked(tokens, block_ngram):
                        total[beam, banned] = _NEVER
                ranked = (total - diversity * taken if group else total).flatten()
                top = ranked.topk(min(2 * beam_size, len(ranked))).indices
                kept: list[tuple[int, int, float]] = []
                for index in top.tolist():
                    beam, token = divmod(index, vocabulary)
                    score = float(total[beam, token])
                    if score <= _NEVER / 2:
                        continue
                    if token == eos_id:
                        tokens = beams[row][group][beam]
                        done[row][group].append(Hypothesis(tokens, score / length_factor(length, length_penalty)))
                    elif len(kept) < beam_size:
                        kept.append((beam, token, score))
                beams[row][group] = [[*beams[row][group][beam], token] for beam, token, _ in kept] + [
                    [] for _ in range(beam_size - len(kept))
                ]
                scores[row, group] = _NEVER
                for place, (beam, token, score) in enumerate(kept):
                    origins[row, group, place], chosen[row, group, place] = beam, token
                    scores[row, group, place] = score
                    taken[token] += 1
        if all(
            _settled(d, s, length, max_length, length_penalty, beam_size)
            for rows, row_scores in zip(done, scores, strict=True)
            for d, s in zip(rows, row_scores, strict=True)
        ):
            break
        base = (torch.arange(count)[:, None] * groups + torch.arange(groups))[..., None] * beam_size
        state = choose_rows(state, (base + origins).flatten().to(device))
        last = chosen.flatten().to(device)
    answers = []
    for row in range(count):
        found: list[Hypothesis] = []
        for group in range(groups):
            ended = done[row][group] or _unfinished(beams[row][group], scores[row, group], length_penalty)
            fresh = [hypothesis for hypothesis in ended if hypothesis.tokens not in [h.tokens for h in found]]
            found.append(max(fresh or ended, key=lambda hypothesis: hypothesis.score))
        answers.append(found)
    return answers


def _settled(done: list[Hypothesis], scores: Tensor, length: int, longest: int, penalty: float, beam_size: int) -> bool:
    """Whether no open beam of a group can still beat its worst finished one."""
    if len(done) < beam_size:
        return bool(scores.max() <= _NEVER / 2)
    worst = sorted((h.score for h in done), reverse=True)[beam_size - 1]
    return float(scores.max()) / length_factor(longest if penalty > 0 else length, penalty) <= worst


def _unfinished(beams: list[list[int]], scores: Tensor, penalty: float) -> list[Hypothesis]:
    """Open beams as hypotheses, where none came to an end within the length that was allowed."""
    return [
        Hypothesis(tokens, float(score) / length_factor(len(tokens), penalty))
        for tokens, score in zip(beams, scores, strict=True)
    ]
