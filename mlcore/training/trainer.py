"""One training loop for every recipe, on the CPU: schedule, clipping, averaging, evaluation, checkpoints, log."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mlcore.training.process import has_fast_bfloat16


@dataclass(frozen=True)
class Settings:
    """How long and how fast; a recipe has one for each of its stages."""

    steps: int
    max_lr: float
    warmup: float = 0.1  # share of the steps
    final_lr: float = 0.01  # share of max_lr
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # gradients are scaled down to this norm: the cure for exploding ones
    average_from: float = 0.67  # share of the steps after which weights are averaged
    average_decay: float = 0.98
    average_every: int = 10  # steps
    evaluate_every: int = 500  # steps
    patience: int = 0  # evaluations without a better score before stopping; 0 never stops
    checkpoint_every_s: float = 300.0
    seed: int = 1


class Batches(Protocol):
    """Data of one stage: `epoch(n)` yields the n-th epoch's batches, the same at each call."""

    def epoch(self, number: int, *, skip: int) -> Iterable[Any]:
        """Batches of epoch `number`, the first `skip` left out (cheaply: a resumed run needs it)."""


@dataclass
class _Progress:
    step: int = 0
    epoch: int = 0
    position: int = 0  # batches of this epoch already used
    best: float = -math.inf
    stale: int = 0  # evaluations since the best
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def learning_rate(step: int, settings: Settings) -> float:
    """Factor of max_lr at `step`: linear warm-up, then a cosine down to `final_lr` (one cycle, Smith 2018)."""
    warmup = max(1, int(settings.warmup * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, settings.steps - warmup))
    return settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Trains `model` on `batches`; `fit()` returns it with the best averaged weights.

    `loss(model, batch)` gives a scalar; `evaluate(model)` gives named dev scores of which `monitor` is to grow.
    `groups` are (parameters, factor of the rate, first step at which they learn): discriminative rates and gradual
    unfreezing. With `keep_first` the weights that it begins with are a candidate too: a run that goes on from good ones
    must not end with worse. Everything that a resumed run needs is in one safetensors file, replaced atomically.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        settings: Settings,
        batches: Batches,
        loss: Callable[[nn.Module, Any], Tensor],
        evaluate: Callable[[nn.Module], dict[str, float]],
        monitor: str,
        folder: Path,
        groups: Sequence[tuple[Sequence[nn.Parameter], float, int]] | None = None,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
        keep_first: bool = False,
    ) -> None:
        self.model = model
        self.settings = settings
        self.batches = batches
        self.loss = loss
        self.evaluate = evaluate
        self.monitor = monitor
        self.folder = folder
        self.progress = progress
        self.keep_first = keep_first
        self.groups = list(groups or [(list(model.parameters()), 1.0, 0)])
        self.optimizer = torch.optim.AdamW(
            [{"params": list(parameters)} for parameters, _, _ in self.groups],
            lr=settings.max_lr,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.average: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.state = _Progress()
        self.bfloat16 = has_fast_bfloat16()

    @property
    def checkpoint(self) -> Path:
        """Where this run's state lies."""
        return self.folder / "checkpoint.safetensors"

    def fit(self, *, resume: bool = False) -> nn.Module:
        """Train to the last step or until patience runs out; the model comes back in eval mode."""
        torch.manual_seed(self.settings.seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and self.checkpoint.exists():
            self._load()
        else:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
        stream = self._stream()
        saved = started = time.monotonic()
        before = self.state.seconds
        if self.keep_first and self.state.step == 0:
            self._evaluate()
        for _ in self.progress(range(self.state.step, self.settings.steps)):
            self._step(next(stream))
            self.state.seconds = before + time.monotonic() - started
            last = self.state.step == self.settings.steps
            if last or self.state.step % self.settings.evaluate_every == 0:
                self._evaluate()
            patience = self.settings.patience
            if patience and self.state.stale >= patience:
                self.state.step = self.settings.steps
                break
            if time.monotonic() - saved > self.settings.checkpoint_every_s:
                self._save()
                saved = time.monotonic()
        self._save()
        if self.best:
            self.model.load_state_dict(self.best, strict=False)
        return self.model.eval()

    def _stream(self) -> Iterator[Any]:
        while True:
            empty = True
            for batch in self.batches.epoch(self.state.epoch, skip=self.state.position):
                empty = False
                self.state.position += 1
                yield batch
            if empty and self.state.position == 0:
                raise ValueError("There is no training batch: the data folder holds no usable example.")
            self.state.epoch += 1
            self.state.position = 0

    def _step(self, batch: Any) -> None:
        settings, state = self.settings, self.state
        rate = learning_rate(state.step, settings)
        for group, (parameters, factor, first) in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = settings.max_lr * rate * factor if state.step >= first else 0.0
            for parameter in parameters:  # whose gradients, not yet wanted, would cost time
                parameter.requires_grad_(state.step >= first)
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            loss = self.loss(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        if torch.isfinite(norm):  # a single bad batch must not spoil the run
            self.optimizer.step()
        state.step += 1
        first_average = int(settings.average_from * settings.steps)
        if state.step >= first_average and state.step % settings.average_every == 0:
            self._average()
        if state.step % 50 == 0 or state.step == 1:
            self._log({"loss": float(loss.detach()), "gradient_norm": float(norm), "lr": settings.max_lr * rate})

    def _average(self) -> None:
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if name in self.average:
                    self.average[name].lerp_(value.float(), 1 - self.settings.average_decay)
                else:
                    self.average[name] = value.float().clone()

    def _evaluate(self) -> None:
        current = {name: value.clone() for name, value in self.model.state_dict().items()}
        if self.average:
            self.model.load_state_dict(self.average, strict=False)
        self.model.eval()
        with torch.inference_mode():
            scores = self.evaluate(self.model)
        if scores[self.monitor] > self.state.best:
            self.state.best, self.state.stale = scores[self.monitor], 0
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        else:
            self.state.stale += 1
        self.model.load_state_dict(current)
        self.state.history.append({"step": self.state.step, "seconds": self.state.seconds, **scores})
        self._log(scores)

    def _log(self, values: dict[str, float]) -> None:
        row = {"step": self.state.step, "epoch": self.state.epoch, "seconds": round(self.state.seconds, 1)}
        row |= {name: round(value, 6) for name, value in values.items()}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        tensors["random"] = torch.get_rng_state()
        # tied weights share memory, which safetensors refuses: each name gets its own copy
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        partial = self.checkpoint.with_suffix(".part")
        save_file(tensors, partial, metadata={"state": json.dumps(vars(self.state))})
        os.replace(partial, self.checkpoint)

    def _load(self) -> None:
        kinds: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
        with safe_open(self.checkpoint, framework="pt") as file:
            self.state = _Progress(**json.loads(file.metadata()["state"]))
            for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                kind, _, rest = name.partition(".")
                if kind in kinds:
                    kinds[kind][rest] = file.get_tensor(name)
            random = file.get_tensor("random")
        self.model.load_state_dict(kinds["model"])
        self.average, self.best = kinds["average"], kinds["best"]
        log = self.folder / "log.jsonl"
        if log.exists():  # what was logged after this checkpoint is done, and logged, again
            rows = log.read_text(encoding="utf-8").splitlines(keepends=True)
            log.write_text("".join(row for row in rows if json.loads(row)["step"] <= self.state.step), encoding="utf-8")
        if self.state.step < int(self.settings.average_from * self.settings.steps):
            self.average = {}  # the run was made longer: averaging begins anew, late
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in kinds["optimizer"].items():
            index, _, what = name.partition(".")
            state.setdefault(int(index), {})[what] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        torch.set_rng_state(random)
