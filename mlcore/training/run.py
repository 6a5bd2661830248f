"""What a recipe is told by the command line, and the parts that recipes share."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from mlcore.bundle import Bundle
from mlcore.errors import BundleError, InvalidInput
from mlcore.predictor import load_model
from mlcore.training.process import checkpoint_root


@dataclass(frozen=True)
class Run:
    """One call of a recipe: where data comes from, how large, where the bundle goes."""

    task: str
    variant: str
    data: Path
    size: str  # tiny, base or large
    out: Path
    resume: bool = False
    init: Path | None = None  # a bundle whose weights the run starts from
    seed: int = 1

    @property
    def folder(self) -> Path:
        """Checkpoints and logs of this run, outside the checkout."""
        return checkpoint_root() / f"{self.task}-{self.variant}-{self.size}"

    @property
    def command(self) -> str:
        """The line that repeats this run, for the card. That says what BUNDLE was: its path may name a newer one."""
        init = " --init BUNDLE" if self.init else ""
        return (
            f"python -m mlcore train {self.task} --variant {self.variant} --data DIR "
            f"--size {self.size} --seed {self.seed}{init} --out OUT"
        )

    def begin(self) -> None:
        """Make the run's folder ready; InvalidInput where `resume` would go on with the checkpoints of another run.

        Also where `out` holds something else than a bundle, which the run's would replace hours later. A run that is
        not to go on from its checkpoints forgets those of all stages and the features of photos: a later `resume` of
        this run must find none of an earlier one's.
        """
        self._check_out()
        first = self._open_first()
        own = {"seed": self.seed, "init": first.digest if first else None, "data": _fingerprint(self.data)}
        path = self.folder / "run.json"
        if not self.resume:
            stages = (*self.folder.glob("*/checkpoint.safetensors"), *self.folder.glob("*/log.jsonl"))
            for old in (*stages, *(file for file in self.folder.glob("*") if file.is_file())):
                old.unlink()
            shutil.rmtree(self.folder / "features", ignore_errors=True)
        elif path.exists() and json.loads(path.read_text()) != own:
            problem = (
                f"The checkpoints in {self.folder} are of a run with another --seed or --init, or of other data. "
                "Leave --resume out."
            )
            raise InvalidInput("resume", problem)
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(own))

    def check(self, name: str, digest: str) -> None:
        """Note what else the run began with; InvalidInput where a resumed one began with something else."""
        path = self.folder / f"{name}.digest"
        if self.resume and path.exists() and path.read_text() != digest:
            problem = f"The checkpoints in {self.folder} are of a run with another {name}. Leave --resume out."
            raise InvalidInput("resume", problem)
        path.write_text(digest)

    def _check_out(self) -> None:
        kept = self.out.is_dir() and any(self.out.iterdir()) and not (self.out / "config.json").is_file()
        if kept or (self.out.exists() and not self.out.is_dir()):
            problem = f"{self.out} is no bundle, so it is not replaced. Name a new folder, or a bundle to replace."
            raise InvalidInput("out", problem)

    def first_bundle(self) -> Bundle | None:
        """The bundle that the run goes on from, if it does; InvalidInput where that is another task's or not the one
        that the run began with: a folder may be replaced while a run takes hours."""
        bundle, path = self._open_first(), self.folder / "run.json"
        if bundle is not None and path.exists() and json.loads(path.read_text())["init"] != bundle.digest:
            problem = f"{self.init} is no longer the bundle that the run began with. Put that back, then --resume."
            raise InvalidInput("init", problem)
        return bundle

    def _open_first(self) -> Bundle | None:
        if self.init is None:
            return None
        bundle = Bundle.open(self.init)
        if bundle.task != self.task:
            raise InvalidInput("init", f"{self.init} is a bundle of {bundle.task}, not of {self.task}.")
        return bundle

    def version(self, first: int) -> int:
        """Number of the bundle to come: one more than that of the bundle that the run goes on from, else `first`."""
        bundle = self.first_bundle()
        return first if bundle is None else bundle.version + 1

    def load_first(self, model: nn.Module) -> None:
        """Give a new model the first bundle's weights, if there is one; InvalidInput where its sizes differ."""
        bundle = self.first_bundle()
        if bundle is not None:
            try:
                model.load_state_dict(load_model(bundle).state_dict())
            except RuntimeError:
                problem = f"{self.init} is of another size than --size {self.size}: its weights do not fit."
                raise InvalidInput("init", problem) from None

    def progress(self, description: str) -> partial[Iterable[int]]:
        """A progress bar to hand to the trainer."""
        return partial(tqdm, desc=description, mininterval=10, smoothing=0.05)

    def record(self, name: str, seconds: float) -> None:
        """Write a stage's time, all its resumed parts together, into the run's ledger: the card says what it took."""
        path = self.folder / "seconds.json"
        ledger = json.loads(path.read_text()) if path.exists() else {}
        ledger[name] = round(seconds, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(ledger))


def _fingerprint(data: Path) -> str:
    """What a data folder holds, by names and sizes."""
    files = sorted((str(file.relative_to(data)), file.stat().st_size) for file in data.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def recipe(task: str) -> Any:
    """The module that trains and evaluates a task's bundles; BundleError where there is none."""
    name = f"mlcore.training.recipes.{task.replace('-', '_')}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BundleError(f"There is no recipe for {task}.") from error
