"""`python -m benchmarks.records BUNDLE [FOLDER]`: keep how a bundle was trained.

Adds a line to `benchmarks/training/<task>-<variant>.jsonl`: the bundle's name, what its card says of command and
machine, and the dev scores of each stage, from the run's checkpoint folder or, without one, from the card's tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlcore.bundle import Bundle

FOLDER = Path(__file__).resolve().parent / "training"
_LOGGED = frozenset({"epoch", "loss", "gradient_norm", "lr", "seconds"})  # beside the dev scores of a line of the log


def from_logs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The evaluations of each stage, in a run's checkpoint folder."""
    found = {}
    for path in sorted(folder.glob("*/log.jsonl"), key=lambda path: path.stat().st_mtime):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.parent.name] = [
            {"step": row["step"], "hours": round(row["seconds"] / 3600, 3)}
            | {name: round(value, 4) for name, value in row.items() if name != "step" and name not in _LOGGED}
            for row in rows
            if "loss" not in row
        ]
    return found


def from_card(card: str) -> dict[str, list[dict[str, Any]]]:
    """The same from the tables of a card, each under the words before it."""
    found: dict[str, list[dict[str, Any]]] = {}
    head: list[str] = []
    name = ""
    for line in card.splitlines():
        cells = list(_cells(line))
        if not cells:
            head = []
            name = line.strip("#: ")[:60] or name
        elif cells[:2] == ["step", "hours"]:
            head = cells
        elif head and not cells[0].startswith("-"):
            found.setdefault(name, []).append(dict(zip(head, map(float, cells), strict=True)))
    return found


def _cells(line: str) -> Iterator[str]:
    if line.startswith("|") and line.endswith("|"):
        yield from (cell.strip() for cell in line[1:-1].split("|"))


def record(bundle: Bundle, folder: Path | None) -> dict[str, Any]:
    """The line of one run."""
    made = next((line for line in bundle.card.splitlines() if line.startswith("**Made by** ")), "")
    curve = from_logs(folder) if folder else from_card(bundle.card)
    return {"bundle": bundle.label, "made": made.removeprefix("**Made by** "), "dev": curve}


def main(arguments: list[str]) -> int:
    """Add the line, once."""
    if len(arguments) not in (1, 2):
        print("python -m benchmarks.records BUNDLE [CHECKPOINT_FOLDER]", file=sys.stderr)
        return 2
    bundle = Bundle.open(Path(arguments[0]))
    path = FOLDER / f"{bundle.task}-{bundle.variant}.jsonl"
    line = json.dumps(record(bundle, Path(arguments[1]) if len(arguments) > 1 else None), ensure_ascii=False) + "\n"
    path.parent.mkdir(exist_ok=True)
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    if line not in known:
        path.write_text(known + line, encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
