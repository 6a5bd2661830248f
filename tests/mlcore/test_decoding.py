"""Beam search against trying everything, and what it promises."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from mlcore.decoding import Hypothesis, State, diverse_beam_search, length_factor

BOS, EOS, VOCABULARY = 2, 3, 7


def _table(seed: int, rows: int = 1) -> State:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, VOCABULARY, VOCABULARY, generator=generator) * 1.5
    return {"table": logits.log_softmax(dim=-1)}  # log p(next | last), a row's own


def _step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
    return state["table"][torch.arange(len(tokens)), tokens], state


def _search(state: State, **options: object) -> list[list[Hypothesis]]:
    settings = {"bos_id": BOS, "eos_id": EOS, "beam_size": 4, "max_length": 5, "block_ngram": 0} | options
    return diverse_beam_search(state, _step, **settings)  # type: ignore[arg-type]


def _score(table: Tensor, tokens: tuple[int, ...], penalty: float) -> float:
    path = [BOS, *tokens, EOS]
    return sum(float(table[a, b]) for a, b in pairwise(path)) / length_factor(len(path) - 1, penalty)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_wide_beam_finds_what_trying_everything_finds(seed: int, penalty: float) -> None:
    state = _table(seed)
    allowed = range(4, VOCABULARY)
    every = [tokens for length in range(1, 5) for tokens in product(allowed, repeat=length)]
    expected = max(_score(state["table"][0], tokens, penalty) for tokens in every)
    ((found,),) = _search(state, beam_size=200, length_penalty=penalty)
    assert found.score == pytest.approx(expected, abs=1e-4)
    assert _score(state["table"][0], tuple(found.tokens), penalty) == pytest.approx(found.score, abs=1e-4)


def test_a_beam_of_one_is_greedy() -> None:
    state = _table(3)
    ((found,),) = _search(state, beam_size=1)
    last, expected = BOS, []
    for number in range(5):
        row = state["table"][0, last].clone()
        row[[0, 1, 2, *([EOS] if number == 0 else [])]] = -torch.inf
        last = int(row.argmax())
        if last == EOS:
            break
        expected.append(last)
    assert found.tokens == expected


def test_rows_together_are_found_as_each_alone() -> None:
    state = _table(5, rows=4)
    together = _search(state, groups=2, diversity=0.5)
    for row in range(4):
        assert _search({"table": state["table"][row : row + 1]}, groups=2, diversity=0.5)[0] == together[row]


def test_more_groups_leave_the_answer_and_differ_from_it() -> None:
    state = _table(8)
    ((alone,),) = _search(state, beam_size=2)
    ((first, second, third),) = _search(state, beam_size=2, groups=3, diversity=5.0)
    assert first == alone
    assert len({tuple(first.tokens), tuple(second.tokens), tuple(third.tokens)}) == 3


def test_no_run_of_tokens_comes_twice_and_no_search_is_endless() -> None:
    table = torch.full((1, VOCABULARY, VOCABULARY), -5.0)
    table[0, :, 4], table[0, 4, 5], table[0, 5, 4] = -0.1, -0.05, -0.05  # 4 5 4 5 4 5 ...
    table[0, :, EOS] = -20.0
    ((looping,),) = _search({"table": table}, max_length=12)
    assert looping.tokens[:6] == [4, 5, 4, 5, 4, 5]
    ((found,),) = _search({"table": table}, max_length=12, block_ngram=2)
    pairs = list(pairwise(found.tokens))
    assert len(pairs) == len(set(pairs))
    assert len(found.tokens) <= 12
