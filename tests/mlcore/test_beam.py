"""The batched beam search against exhaustive search, its bounds, and symbols that must be carried over."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mlcore import beam
from mlcore.decoding import State, length_factor

EOS, VOCABULARY = 3, 7


def table(seed: int) -> Tensor:
    """(V, V) log-probabilities of the next token given the last."""
    return torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=-1)


def stepper(tables: Tensor) -> beam.Step:
    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return tables[state["row"], tokens], state

    return step


def run(tables: Tensor, **options: object) -> list[list[beam.Hypothesis]]:
    rows = len(tables)
    defaults: dict = {"eos_id": EOS, "beam_size": 60, "max_lengths": [4] * rows, "forbidden": (0, 1, 2)}
    state = {"row": torch.arange(rows)}
    return beam.search(state, stepper(tables), first=torch.full((rows,), 2), **{**defaults, **options})


def score(log_p: Tensor, tokens: tuple[int, ...]) -> float:
    path = [2, *tokens, EOS]
    return sum(float(log_p[a, b]) for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("penalty", [0.0, 0.8])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty: float) -> None:
    tables = torch.stack([table(seed) for seed in range(5)])
    for log_p, found in zip(tables, run(tables, length_penalty=penalty), strict=True):
        every = [t for n in range(1, 4) for t in itertools.product(range(4, VOCABULARY), repeat=n)]
        ranked = sorted(every, key=lambda t: -score(log_p, t) / length_factor(len(t) + 1, penalty))
        assert found[0].tokens == list(ranked[0])
        assert found[0].score == pytest.approx(
            score(log_p, ranked[0]) / length_factor(len(ranked[0]) + 1, penalty), abs=1e-4
        )


def test_rows_do_not_touch_each_other() -> None:
    tables = torch.stack([table(seed) for seed in range(6)])
    together = run(tables, beam_size=3, max_lengths=[5, 3, 8, 2, 6, 4])
    for row, limit in enumerate([5, 3, 8, 2, 6, 4]):
        alone = run(tables[row : row + 1], beam_size=3, max_lengths=[limit])[0]
        assert [h.tokens for h in together[row]] == [h.tokens for h in alone]


def test_it_ends_even_when_the_end_never_comes() -> None:
    log_p = torch.zeros(1, VOCABULARY, VOCABULARY)
    log_p[:, :, EOS] = -1e8
    (found,) = run(log_p.log_softmax(dim=-1), beam_size=2, max_lengths=[9], block_ngram=0)
    assert len(found[0].tokens) == 9


def test_no_run_of_tokens_comes_twice() -> None:
    log_p = torch.full((1, VOCABULARY, VOCABULARY), -5.0)
    log_p[0, :, 4] = 0.0
    (found,) = run(log_p, beam_size=1, max_lengths=[20], block_ngram=3)
    runs = list(zip(found[0].tokens, found[0].tokens[1:], found[0].tokens[2:], strict=False))
    assert len(runs) == len(set(runs))


def test_counted_symbols_come_as_often_as_they_must() -> None:
    tables = torch.stack([table(seed) for seed in range(8)])
    budget = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [0, 2], [2, 1], [0, 0]])
    found = run(tables, beam_size=3, max_lengths=[12] * 8, counted=(5, 6), budget=budget)
    for wanted, hypotheses in zip(budget.tolist(), found, strict=True):
        for hypothesis in hypotheses:
            assert [hypothesis.tokens.count(5), hypothesis.tokens.count(6)] == wanted


def test_coverage_prefers_what_looked_everywhere() -> None:
    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        log_p = torch.full((len(tokens), VOCABULARY), -9.0)
        log_p[:, 4], log_p[:, 5] = -0.5, -0.6
        log_p[tokens != 2, EOS] = 0.0
        seen = torch.where((tokens == 5)[:, None], 1.0, state["seen"])
        return log_p, {**state, "seen": seen}

    def best(penalty: float) -> list[int]:
        state = {"seen": torch.full((1, 2), 0.01), "mask": torch.ones(1, 2, dtype=torch.bool)}
        (found,) = beam.search(
            state,
            step,
            first=torch.tensor([2]),
            eos_id=EOS,
            beam_size=2,
            max_lengths=[3],
            coverage_penalty=penalty,
            forbidden=(0, 1, 2),
        )
        return found[0].tokens

    assert best(0.0) == [4]
    assert best(1.0) == [5]


def test_the_same_symbol_may_come_many_times_where_it_must() -> None:
    log_p = torch.full((1, VOCABULARY, VOCABULARY), -5.0)
    log_p[0, :, 5], log_p[0, :, EOS] = -0.1, -0.2
    (found,) = run(log_p, beam_size=2, max_lengths=[30], counted=(5, 6), budget=torch.tensor([[8, 0]]))
    assert found[0].tokens == [5] * 8
