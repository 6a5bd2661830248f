"""Beam search over many rows at once, for decoders whose answers follow a source.

The search of `mlcore.decoding` is for groups that must differ; this one has length normalisation and coverage (Wu et
al. 2016, https://arxiv.org/abs/1609.08144), symbols that must be carried over, and leaves rows out as they end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from mlcore.decoding import NEVER, Hypothesis, State, Step, block_runs, choose_beams, choose_rows, length_factor


def search(
    state: State,
    step: Step,
    *,
    first: Tensor,
    eos_id: int,
    beam_size: int,
    max_lengths: Sequence[int],
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    forbidden: Sequence[int] = (),
    counted: Sequence[int] = (),
    budget: Tensor | None = None,
    block_ngram: int = 4,
    fixed: Collection[str] = (),
) -> list[list[Hypothesis]]:
    """For each row its `beam_size` best hypotheses, the best first.

    `first` (N,) are the tokens that the rows start from; `max_lengths` bounds each row's answer, eos included. A token
    of `counted` may come as often as `budget` (N, C) says, and an answer ends only when all of them have come. With
    `coverage_penalty`, the state's `seen` (N, S) holds how much attention each place of `mask` (N, S) was given. No run
    of `block_ngram` tokens comes twice. `fixed` names what in the state is the same at all steps of a row. Scores are
    log-probabilities over length ** penalty, coverage included.
    """
    search_ = _Search(beam_size, list(max_lengths), length_penalty, coverage_penalty)
    rows = len(max_lengths)
    device = first.device
    owner = torch.arange(rows, device=device)  # the rows still searched
    state = choose_rows(state, owner.repeat_interleave(beam_size))
    last = first.repeat_interleave(beam_size)
    scores = torch.full((rows, beam_size), NEVER, device=device)
    scores[:, 0] = 0.0  # all beams of a row start alike: only the first one counts
    tokens = torch.zeros(rows, beam_size, 0, dtype=torch.long, device=device)
    left = budget.repeat_interleave(beam_size, dim=0).clone() if budget is not None and counted else None
    marks = torch.tensor(list(counted), dtype=torch.long, device=device)
    banned = torch.tensor(list(forbidden), dtype=torch.long, device=device)
    for length in range(1, max(max_lengths) + 1):
        log_p, state = step(last, state)  # (n * beam, V)
        log_p = log_p.float()
        log_p[:, banned] = NEVER
        if length == 1:
            log_p[:, eos_id] = NEVER  # an answer has at least one token
        if left is not None:
            log_p[:, marks] = torch.where(left > 0, log_p[:, marks], NEVER)
            log_p[:, eos_id] = torch.where((left > 0).any(dim=1), NEVER, log_p[:, eos_id])
        block_runs(log_p, tokens.flatten(0, 1), block_ngram, marks)
        vocabulary = log_p.shape[1]
        total = scores[..., None] + log_p.view(len(owner), beam_size, vocabulary)
        best, place = total.flatten(1).topk(2 * beam_size, dim=1)  # (n, 2 * beam)
        beam, token = place // vocabulary, place % vocabulary
        ends = token == eos_id
        search_.collect(owner.tolist(), best, beam, ends, tokens, state, length)
        # the best `beam_size` that go on; each step has enough, as eos is one token of many
        order = ends.to(torch.int8).sort(dim=1, stable=True).indices[:, :beam_size]
        scores, beam, token = (x.gather(1, order) for x in (best, beam, token))
        scores = scores.masked_fill(token == eos_id, NEVER)
        tokens = torch.cat([tokens.gather(1, beam[..., None].expand(-1, -1, tokens.shape[2])), token[..., None]], dim=2)
        going = search_.going(owner.tolist(), scores, length)
        search_.cut(owner.tolist(), scores, tokens, going, state, beam, length)
        if not any(going):
            break
        keep = torch.tensor(going, device=device).nonzero()[:, 0]
        source = (keep[:, None] * beam_size + beam[keep]).flatten()
        owner, scores, tokens = owner[keep], scores[keep], tokens[keep]
        last = token[keep].flatten()
        # memory of the source is most of the state: it is moved only when a row has left
        state = choose_rows(state, source) if not all(going) else choose_beams(state, source, fixed)
        if left is not None:
            left = left.index_select(0, source) - (last[:, None] == marks).to(left.dtype)
    return search_.answers()


class _Search:
    """The finished hypotheses of all rows."""

    def __init__(self, beam_size: int, max_lengths: list[int], penalty: float, coverage: float) -> None:
        self.beam_size, self.max_lengths, self.penalty, self.coverage = beam_size, max_lengths, penalty, coverage
        self.done: list[list[Hypothesis]] = [[] for _ in max_lengths]

    def collect(
        self, owner: list[int], best: Tensor, beam: Tensor, ends: Tensor, tokens: Tensor, state: State, length: int
    ) -> None:
        """Keep the hypotheses that ended at this step."""
        for row, rank in ends.nonzero().tolist():
            score = float(best[row, rank])
            if score <= NEVER / 2 or rank >= self.beam_size:
                continue
            place = int(beam[row, rank])
            self._add(owner[row], tokens[row, place].tolist(), score, state, row * self.beam_size + place, length)

    def _add(self, row: int, tokens: list[int], score: float, state: State, place: int, length: int) -> None:
        score /= length_factor(length, self.penalty)
        if self.coverage:
            seen, mask = state["seen"][place], state["mask"][place]
            score += self.coverage * float(seen[mask].clamp(min=1e-4, max=1.0).log().mean())
        self.done[row].append(Hypothesis(tokens, score))

    def going(self, owner: list[int], scores: Tensor, length: int) -> list[bool]:
        """Whether each row is to be searched on: not all its hypotheses have ended, and it may be longer."""
        return [
            best > NEVER / 2 and length < self.max_lengths[row] and len(self.done[row]) < self.beam_size
            for row, best in zip(owner, scores.max(dim=1).values.tolist(), strict=True)
        ]

    def cut(
        self,
        owner: list[int],
        scores: Tensor,
        tokens: Tensor,
        going: list[bool],
        state: State,
        beam: Tensor,
        length: int,
    ) -> None:
        """Rows that stop without any finished hypothesis give their open ones."""
        for place, row in enumerate(owner):
            if going[place] or self.done[row]:
                continue
            for rank, score in enumerate(scores[place].tolist()):
                if score > NEVER / 2 or rank == 0:
                    origin = place * self.beam_size + int(beam[place, rank])
                    self._add(row, tokens[place, rank].tolist(), score, state, origin, length)

    def answers(self) -> list[list[Hypothesis]]:
        """The best hypotheses of each row, the best first, none twice."""
        found = []
        for done in self.done:
            unique: dict[tuple[int, ...], Hypothesis] = {}
            for hypothesis in sorted(done, key=lambda h: -h.score):
                unique.setdefault(tuple(hypothesis.tokens), hypothesis)
            found.append(list(unique.values())[: self.beam_size])
        return found
