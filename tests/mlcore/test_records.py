"""How bundles were trained, as it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import records
from mlcore import bundle as bundles
from mlcore.bundle import Bundle


def test_every_shipped_bundle_has_a_record_with_a_curve() -> None:
    for folder in bundles.shipped():
        found = Bundle.open(folder)
        path = records.FOLDER / f"{found.task}-{found.variant}.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        (line,) = (line for line in lines if line["bundle"] == found.label)
        assert "python -m mlcore train" in line["made"]
        assert line["dev"]
        for rows in line["dev"].values():
            assert len(rows) > 1
            assert [row["hours"] for row in rows] == sorted(row["hours"] for row in rows)


def test_a_record_is_made_of_logs_or_of_a_card(tmp_path: Path) -> None:
    card = "# A\n\ngeneral:\n\n| step | hours | BLEU |\n| --- | --- | --- |\n| 10 | 0.5 | 12.0 |\n\n| set | BLEU |\n"
    assert records.from_card(card) == {"general": [{"step": 10, "hours": 0.5, "BLEU": 12}]}
    (tmp_path / "general").mkdir()
    rows = [
        {"step": 5, "epoch": 0, "seconds": 9.0, "loss": 1.5, "lr": 0.1},
        {"step": 10, "epoch": 0, "seconds": 1800.0, "BLEU": 12.00004},
    ]
    (tmp_path / "general" / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert records.from_logs(tmp_path) == {"general": [{"step": 10, "hours": 0.5, "BLEU": pytest.approx(12, abs=1e-4)}]}
