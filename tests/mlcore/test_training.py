"""Losses against torch's own, the schedule, batches, and a run that is cut off and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from torch import nn

from mlcore.bundle import Bundle
from mlcore.errors import InvalidInput
from mlcore.models.recurrent import LSTM, BiLSTM, LockedDropout, WeightDropLSTM, project, reverse_within_length
from mlcore.pieces import _drawn
from mlcore.predictor import load_model
from mlcore.training import cards
from mlcore.training.data import bucket_batches, padded_length
from mlcore.training.losses import blockwise_cross_entropy, sampled_cross_entropy
from mlcore.training.parallel_text import Pair
from mlcore.training.publish import write_bundle
from mlcore.training.recipes import sentiment_analysis, translation
from mlcore.training.run import Run
from mlcore.training.sentiment_batches import loss as sentiment_loss
from mlcore.training.trainer import Settings, Trainer, learning_rate
from mlcore.training.translation import PairBatches


@pytest.fixture(autouse=True)
def _no_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoints of this machine's, no folder "out" of somebody's."""
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path / "no-checkpoints"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_an_adversary_moves_embeddings_to_where_the_loss_is_worse() -> None:
    model, _, batch = sentiment_analysis.toy()
    plain = sentiment_loss(model, batch)
    worse = [sentiment_loss(model, batch, adversary=far) for far in (1e-6, 0.1, 0.5)]
    torch.testing.assert_close(worse[0], plain, rtol=1e-4, atol=1e-6)
    assert plain < worse[1] < worse[2]
    weights = list(model.parameters())
    still = torch.autograd.grad(worse[0], weights)
    for found, expected in zip(still, torch.autograd.grad(plain, weights), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for moved, rested in zip(torch.autograd.grad(worse[2], weights), still, strict=True):
        assert not torch.equal(moved, rested)
    model.embedding.requires_grad_(False)
    assert sentiment_loss(model, batch, adversary=0.5) == plain, "the head learns alone without one"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_blockwise_cross_entropy_is_cross_entropy(smoothing: float) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(37, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    bias, targets = torch.randn(50, requires_grad=True), torch.randint(50, (37,))
    plain = nn.functional.cross_entropy(hidden @ weight.T + bias, targets, reduction="sum", label_smoothing=smoothing)
    expected = torch.autograd.grad(plain, (hidden, weight, bias))
    blocked = blockwise_cross_entropy(hidden, weight, bias, targets, label_smoothing=smoothing, block=10)
    found = torch.autograd.grad(blocked, (hidden, weight, bias))
    torch.testing.assert_close(blocked, plain)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_sample_of_the_vocabulary_gives_the_whole_ones_loss_and_gradients() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(6, 8), 0.3 * torch.randn(400, 8), 0.3 * torch.randn(400)
    parts, targets = tuple(x.requires_grad_() for x in (hidden, weight, bias)), torch.randint(400, (6,))
    whole = blockwise_cross_entropy(*parts, targets)
    expected = torch.autograd.grad(whole, parts)
    draws = [sampled_cross_entropy(*parts, targets, size=100, always=40) for _ in range(300)]
    assert len({draw.item() for draw in draws}) > 1  # drawn anew each time
    found = torch.autograd.grad(torch.stack(draws).mean(), parts)
    assert sum(draw.item() for draw in draws) / len(draws) == pytest.approx(whole.item(), rel=0.02)
    for a, b in zip(found, expected, strict=True):
        assert float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > 0.98


@pytest.mark.parametrize(("size", "always"), [(50, 10), (80, 50), (11, 10)])
def test_a_sample_that_would_be_too_small_or_all_is_the_whole(size: int, always: int) -> None:
    torch.manual_seed(0)
    parts = (torch.randn(20, 8), torch.randn(50, 8), torch.randn(50))
    targets = torch.arange(20)
    found = sampled_cross_entropy(*parts, targets, size=size, always=always)
    torch.testing.assert_close(found, blockwise_cross_entropy(*parts, targets))


def test_each_row_is_reversed_within_its_length() -> None:
    x = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])
    assert reverse_within_length(x, torch.tensor([3, 4])).tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]


def test_padding_changes_no_output_of_a_bilstm() -> None:
    layer = BiLSTM(4, 3, 2, dropout=0, weight_dropout=0).eval()
    x = torch.randn(1, 5, 4)
    padded = torch.cat([x, torch.full((1, 4, 4), 9.0)], dim=1)
    for short, long in zip(layer(x, torch.tensor([5])), layer(padded, torch.tensor([5])), strict=True):
        torch.testing.assert_close(short, long[:, :5])


def test_a_single_step_of_few_rows_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM(5, 7), nn.LSTM(5, 7, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    for rows in (1, 3, LSTM.SOME, LSTM.FEW, LSTM.FEW + 1):
        x, state = torch.randn(rows, 1, 5), (torch.randn(1, rows, 7), torch.randn(1, rows, 7))
        torch.testing.assert_close(ours(x, state), theirs(x, state))


def test_few_rows_are_projected_as_many() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(11, 5), torch.randn(11)
    for shape in ((1, 5), (2, 5), (32, 5), (33, 5), (2, 3, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(project(x, weight, bias), nn.functional.linear(x, weight, bias))


def test_locked_dropout_has_one_mask_over_time() -> None:
    torch.manual_seed(0)
    out = LockedDropout(0.5).train()(torch.ones(4, 6, 64))
    assert (out == out[:, :1]).all()
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(out[0], out[1])


def test_weights_between_steps_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = WeightDropLSTM(4, 8, 1, dropout=0, weight_dropout=0.5).train(), torch.randn(2, 5, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


def test_the_rate_warms_up_then_falls() -> None:
    settings = Settings(steps=100, max_lr=1.0, warmup=0.1)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 0.02


def test_buckets_hold_every_item_once_and_few_shapes() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=2_000).tolist()
    batches = bucket_batches(lengths, tokens_per_batch=4096, max_rows=256, generator=np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(2_000))
    shapes = {(len(rows), padded_length(max(lengths[i] for i in rows))) for rows in batches}
    assert len(shapes) < 60


def test_neighbours_share_a_batch() -> None:
    lengths, others = [8] * 200, list(range(200))
    arguments = {"tokens_per_batch": 80, "max_rows": 64, "generator": np.random.default_rng(1)}
    for rows in bucket_batches(lengths, neighbours=others, **arguments):  # type: ignore[arg-type]
        assert max(rows) - min(rows) < len(rows)


def test_batches_of_sentence_pairs_hold_all_of_them_both_ways_and_little_padding() -> None:
    tokenizer = translation.SubwordTokenizer(translation.toy()[1]["tokenizer.model"])
    words = [
        "The",
        "dog",
        "sleeps",
        "on",
        "good",
        "days",
        "and",
        "runs",
        "in",
        "the",
        "garden",
        "when",
        "it",
        "is",
        "dark",
    ]
    counts = [(3 + i % 11, 3 + (i + i // 11) % 11) for i in range(600)]
    pairs = [Pair("de", " ".join(words[:one]), " ".join(words[:other])) for one, other in counts]
    batches = PairBatches({"a": pairs}, {"a": 1.0}, tokenizer, tokens_per_batch=[1_500], seed=1)
    whole = list(batches.epoch(0, skip=0))
    assert sum(len(batch["source"]) for batch in whole) == 2 * len(pairs)
    cells = sum(batch[side].numel() for batch in whole for side in ("source", "target"))
    real = sum(int((batch[side] != 0).sum()) for batch in whole for side in ("source", "target"))
    assert real > 0.75 * cells
    rest = list(batches.epoch(0, skip=3))
    assert all(torch.equal(one["target"], other["target"]) for one, other in zip(whole[3:], rest, strict=True))


def test_a_resumed_run_finds_the_pieces_that_it_had_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = translation.SubwordTokenizer(translation.toy()[1]["tokenizer.model"])
    folder = tmp_path / "run"
    folder.mkdir()
    pairs = [Pair("de", f"The dog sleeps on {i}", f"Der Hund schläft auf {i}") for i in range(40)]

    def epoch(number: int, skip: int = 0) -> list[torch.Tensor]:
        batches = PairBatches(
            {"a": pairs}, {"a": 1.0}, tokenizer, tokens_per_batch=[200], seed=1, keep=folder / "pieces-general"
        )
        return [batch["source"] for batch in batches.epoch(number, skip=skip)]

    whole = epoch(1)
    real = sentencepiece.set_random_generator_seed
    monkeypatch.setattr(sentencepiece, "set_random_generator_seed", lambda seed: real(seed + 1))  # as another process
    assert all(map(torch.equal, whole[2:], epoch(1, skip=2)))
    assert len(epoch(2)) > 0
    assert all(map(torch.equal, whole[2:], epoch(1, skip=2))), "its checkpoint may lie before the new epoch"
    assert len(epoch(3)) > 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["pieces-general-2.npz", "pieces-general-3.npz"], "what is over is not kept"
    again = epoch(1)
    assert len(again) != len(whole) or not all(map(torch.equal, whole, again)), "without the file others are drawn"


def test_a_vocabulary_learns_from_the_same_texts_each_time() -> None:
    texts = [f"text {i}" for i in range(1_000)]
    first = _drawn(iter(texts), 100)
    assert first == _drawn(iter(texts), 100)
    assert len(set(first)) == 100
    assert sum(text in texts[:100] for text in first) < 30, "of all of them, not the first ones"
    assert _drawn(iter(texts), 5_000) == texts


def test_a_size_reads_some_sets_more_often_than_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path))
    read: dict[str, float] = {}

    class Fitted:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.state = self

        seconds = 1.0

        def fit(self, *, resume: bool) -> None: ...

    monkeypatch.setattr(translation, "PairBatches", lambda corpora, shares, *args, **kwargs: read.update(shares))
    monkeypatch.setattr(translation, "Trainer", Fitted)
    run = Run(task="translation", variant="multi", data=Path("data"), size="tiny", out=Path("out"))
    run.begin()
    size = replace(translation.SIZES["tiny"], factors={"multi30k": 3.0})
    shares = {"multi30k": 1.0, "tatoeba": 0.25}
    translation._stage(run, "short", size, None, None, {}, shares)  # type: ignore[arg-type]
    assert read == {"multi30k": 3.0, "tatoeba": 0.25}
    assert cards.hours(run) == "short 0.00 h"


def _run(bundle: Bundle, task: str) -> Run:
    return Run(task=task, variant="multi", data=Path("data"), size="tiny", out=Path("out"), init=bundle.path)


def test_a_run_goes_on_from_the_weights_of_a_bundle(tiny_bundles: dict[str, Bundle]) -> None:
    stored = load_model(tiny_bundles["translation"])
    torch.manual_seed(9)
    model = translation.Model(stored.config)  # type: ignore[arg-type]
    assert not torch.equal(model.embedding.weight, stored.state_dict()["embedding.weight"])
    _run(tiny_bundles["translation"], "translation").load_first(model)
    for name, value in stored.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_run_never_ends_with_another_bundle_than_it_began_with(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    path = shutil.copytree(tiny_bundles["translation"].path, tmp_path / "bundle")
    run = replace(_run(tiny_bundles["translation"], "translation"), init=path)
    run.begin()
    assert run.version(1) == tiny_bundles["translation"].version + 1
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"version": 7}))
    with pytest.raises(InvalidInput, match="no longer the bundle"):
        run.version(1)


def test_features_of_photos_are_kept_for_a_resumed_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path))
    run = Run(task="image-tagging", variant="en", data=Path("data"), size="tiny", out=Path("out"))
    features = run.folder / "features" / "features-x.npy"
    features.parent.mkdir(parents=True)
    features.write_bytes(b"of photos that may be others now")
    replace(run, resume=True).begin()
    assert features.exists()
    run.begin()
    assert not features.exists()


def test_a_run_is_resumed_with_what_else_it_began_with_only(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path))
    run = _run(tiny_bundles["translation"], "translation")
    run.begin()
    run.check("encoder", "one")
    replace(run, resume=True).check("encoder", "one")
    with pytest.raises(InvalidInput, match="another encoder"):
        replace(run, resume=True).check("encoder", "other")
    run.check("encoder", "other")


def test_a_run_takes_up_its_own_checkpoints_only(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path))
    further = _run(tiny_bundles["translation"], "translation")
    first = replace(further, init=None)
    first.begin()
    checkpoint = first.folder / "short" / "checkpoint.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"of the first run")
    first.record("short", 60)
    replace(first, resume=True).begin()
    assert checkpoint.exists()
    with pytest.raises(InvalidInput, match="Leave --resume out"):
        replace(further, resume=True).begin()
    assert checkpoint.exists()
    further.begin()
    assert not checkpoint.exists(), "a later --resume must not find the first run's last stage"
    assert not (first.folder / "seconds.json").exists()
    replace(further, resume=True).begin()


def test_another_folder_of_data_or_an_earlier_runs_files_are_no_part_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("a")
    run = Run(task="translation", variant="multi", data=data, size="tiny", out=tmp_path / "out")
    run.begin()
    (run.folder / "pairs.tsv").write_text("of this run")
    replace(run, resume=True).begin()
    assert (run.folder / "pairs.tsv").exists()
    (data / "b.txt").write_text("b")
    with pytest.raises(InvalidInput, match="other data"):
        replace(run, resume=True).begin()
    run.begin()
    assert not (run.folder / "pairs.tsv").exists()


def test_a_card_tells_of_the_run_before_too(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path))
    first = tiny_bundles["translation"]
    run = replace(_run(first, "translation"), init=None)
    run.record("general", 7_200)
    card = f"# A card\n\n{cards.made_by(run)}\n".encode()
    made = write_bundle(tmp_path / "first", load_model(first), manifest=first.manifest, files={"card.md": card})
    line = cards.made_by(replace(run, init=made.path))
    assert "general 2.00 h. It went on from the weights of translation/" in line
    assert line.count("python -m mlcore train translation") == 2
    assert "\n" not in line
    assert "its card does not tell" in cards.made_by(replace(run, init=first.path))


def test_a_run_refuses_a_bundle_that_does_not_fit(tiny_bundles: dict[str, Bundle]) -> None:
    model, _, _ = translation.toy()
    with pytest.raises(InvalidInput, match="bundle of sentiment-analysis, not of translation"):
        _run(tiny_bundles["sentiment-analysis"], "translation").load_first(model)
    with pytest.raises(InvalidInput, match="another size"):
        _run(tiny_bundles["translation"], "translation").load_first(nn.Linear(2, 2))


class _Numbers:
    def epoch(self, number: int, *, skip: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(number)
        rows = torch.randn(7, 4, 3, generator=generator)
        yield from rows[skip:]


def _trainer(folder: Path, steps: int = 40, **extra: object) -> Trainer:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    return Trainer(
        model,
        settings=Settings(steps=steps, max_lr=0.05, evaluate_every=10, **extra),  # type: ignore[arg-type]
        batches=_Numbers(),
        loss=lambda m, x: (m(x)[:, 0] - x.sum(dim=1)).pow(2).mean(),
        evaluate=lambda m: {"score": -float((m(torch.ones(1, 3)) - 3).abs())},
        monitor="score",
        folder=folder,
    )


class _Cut(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole").fit()
    killed = _trainer(tmp_path / "cut")
    loss, seen = killed.loss, []

    def cut(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        if len(seen) > 23:
            raise _Cut
        return loss(model, batch)

    killed.loss = cut
    step = killed._step

    def saving_step(batch: torch.Tensor) -> None:
        step(batch)
        killed._save()

    killed._step = saving_step  # type: ignore[method-assign]
    with pytest.raises(_Cut):
        killed.fit()
    resumed = _trainer(tmp_path / "cut")
    resumed.fit(resume=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 10, 20, 30, 40], "what was done twice is logged once"


def test_good_first_weights_are_kept_where_training_makes_them_worse(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.keep_first = True
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.evaluate = lambda model: {"score": -float(trainer.state.step)}
    trainer.fit()
    assert [row["step"] for row in trainer.state.history] == [0, 10, 20, 30, 40]
    for name, value in first.items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value)


def test_a_bad_batch_is_passed_over_and_averages_are_judged(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, average_every=1, average_from=0.5)
    plain, judged = trainer.loss, []
    trainer.loss = lambda m, x: plain(m, x) * (float("nan") if trainer.state.step == 5 else 1.0)

    def evaluate(model: nn.Module) -> dict[str, float]:
        judged.append(model.state_dict()["0.weight"].clone())
        return {"score": float(len(judged))}

    trainer.evaluate = evaluate
    found = trainer.fit().state_dict()
    assert all(value.isfinite().all() for value in found.values())
    torch.testing.assert_close(judged[-1], trainer.average["0.weight"])
    torch.testing.assert_close(found["0.weight"], judged[-1])


def test_a_run_that_stops_getting_better_ends(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, steps=4_000, patience=2)
    trainer.evaluate = lambda model: {"score": 1.0}
    trainer.fit()
    assert trainer.state.history[-1]["step"] == 30
    assert (tmp_path / "log.jsonl").read_text().count("gradient_norm") >= 1
