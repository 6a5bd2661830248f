"""Searching sequences: functions of a step function and tensors, the same for every decoder.

A step function takes the last tokens (N,) and a state, and returns log-probabilities (N, V) and the new state. A state
is a dictionary of tensors whose first axis is the row, so that rows can be chosen, repeated and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Step = Callable[[Tensor, State], tuple[Tensor, State]]
NEVER = -1e9  # finite, so that a row without any allowed token still has a best one


@dataclass(frozen=True)
class Hypothesis:
    """Tokens without bos and eos; `score` is their log-probability over length ** penalty."""

    tokens: list[int]
    score: float


def choose_rows(state: State, rows: Tensor) -> State:
    """The state of the rows that are named, in that order; a row may be named more than once."""
    return {name: value.index_select(0, rows) for name, value in state.items()}


def choose_beams(state: State, rows: Tensor, fixed: Collection[str]) -> State:
    """As `choose_rows`, where beams change places within their rows only: what is `fixed` a row need not be moved."""
    return {name: value if name in fixed else value.index_select(0, rows) for name, value in state.items()}


def block_runs(log_p: Tensor, tokens: Tensor, size: int, exempt: Tensor | None = None) -> None:
    """Forbid, in place, what would repeat a run of `size` tokens, unless exempt; tokens (M, T), log_p (M, V)."""
    if size < 2 or tokens.shape[1] < size:
        return
    runs = tokens.unfold(1, size, 1)  # (M, T - size + 1, size)
    same = (runs[:, :, :-1] == tokens[:, None, 1 - size :]).all(dim=2)
    row, place = same.nonzero(as_tuple=True)
    again = runs[row, place, -1]
    if exempt is not None:
        free = ~torch.isin(again, exempt)
        row, again = row[free], again[free]
    log_p[row, again] = NEVER


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
    fixed: Collection[str] = (),
) -> list[list[Hypothesis]]:
    """For each row the best hypothesis of each group, the first group's first.

    Groups of `beam_size` beams are searched one after another at each step; a token costs `diversity` for every beam of
    an earlier group that chose it at this step (Vijayakumar et al. 2016, https://arxiv.org/abs/1610.02424). The first
    group is plain beam search, so more groups never change the answer. No run of `block_ngram` tokens comes twice.
    `fixed` names what in the state is the same at all steps of a row.
    """
    first = next(iter(state.values()))
    count, device = len(first), first.device
    width = groups * beam_size
    state = choose_rows(state, torch.arange(count, device=device).repeat_interleave(width))
    last = torch.full((count * width,), bos_id, device=device)
    scores = torch.full((count, groups, beam_size), NEVER, device=device)
    scores[:, :, 0] = 0.0  # all beams of a group start alike: only the first one counts
    tokens = torch.zeros(count, groups, beam_size, 0, dtype=torch.long, device=device)
    base = torch.arange(count * groups, device=device).view(count, groups, 1) * beam_size
    never = torch.tensor(list(forbidden), dtype=torch.long, device=device)
    done: list[list[list[Hypothesis]]] = [[[] for _ in range(groups)] for _ in range(count)]
    for length in range(1, max_length + 1):
        log_p, state = step(last, state)  # (count * width, V)
        log_p = log_p.float()
        log_p[:, never] = NEVER
        if length == 1:
            log_p[:, eos_id] = NEVER  # an answer has at least one token
        block_runs(log_p, tokens.flatten(0, 2), block_ngram)
        log_p = log_p.view(count, groups, beam_size, -1)
        taken = log_p.new_zeros(count, 1, log_p.shape[-1])
        origins, chosen = torch.zeros_like(scores, dtype=torch.long), torch.zeros_like(scores, dtype=torch.long)
        for group in range(groups):
            total = scores[:, group, :, None] + log_p[:, group]  # (count, beam, V)
            ranked = total - diversity * taken if group and diversity else total
            place = ranked.flatten(1).topk(2 * beam_size, dim=1).indices  # (count, 2 * beam)
            found = total.flatten(1).gather(1, place)
            beam, token = place // total.shape[2], place % total.shape[2]
            ends, real = token == eos_id, found > NEVER / 2
            for row, rank in (ends & real).nonzero().tolist():
                words = tokens[row, group, beam[row, rank]].tolist()
                score = float(found[row, rank]) / length_factor(length, length_penalty)
                done[row][group].append(Hypothesis(words, score))
            goes_on = ~ends & real
            order = goes_on.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :beam_size]
            goes_on, found, origins[:, group], chosen[:, group] = (
                part.gather(1, order) for part in (goes_on, found, beam, token)
            )
            scores[:, group] = torch.where(goes_on, found, NEVER)
            taken[:, 0].scatter_add_(1, chosen[:, group], goes_on.to(taken.dtype))
        earlier = tokens.gather(2, origins[..., None].expand(-1, -1, -1, length - 1))
        tokens = torch.cat([earlier, chosen[..., None]], dim=3)
        best = scores.max(dim=2).values.tolist()
        if all(
            _settled(done[row][group], best[row][group], length, max_length, length_penalty, beam_size)
            for row in range(count)
            for group in range(groups)
        ):
            break
        state = choose_beams(state, (base + origins).flatten(), fixed)
        last = chosen.flatten()
    answers = []
    for row in range(count):
        answer: list[Hypothesis] = []
        for group in range(groups):
            ended = done[row][group] or _unfinished(tokens[row, group], scores[row, group], length_penalty)
            fresh = [hypothesis for hypothesis in ended if hypothesis.tokens not in [h.tokens for h in answer]]
            answer.append(max(fresh or ended, key=lambda hypothesis: hypothesis.score))
        answers.append(answer)
    return answers


def _settled(done: list[Hypothesis], best: float, length: int, longest: int, penalty: float, beam_size: int) -> bool:
    """Whether the best open beam of a group can no more beat its worst finished one."""
    if len(done) < beam_size:
        return best <= NEVER / 2
    worst = sorted((h.score for h in done), reverse=True)[beam_size - 1]
    return best / length_factor(longest if penalty > 0 else length, penalty) <= worst


def _unfinished(tokens: Tensor, scores: Tensor, penalty: float) -> list[Hypothesis]:
    """Open beams (K, T) as hypotheses, where none came to an end within the length that was allowed."""
    factor = length_factor(tokens.shape[1], penalty)
    return [Hypothesis(row, score / factor) for row, score in zip(tokens.tolist(), scores.tolist(), strict=True)]
