"""The command line as scripts use it: real processes for the pipe, `main` for the rest."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlcore.__main__ import main
from mlcore.bundle import Bundle

TASK = "sentiment-analysis"


def _predict(bundle: Bundle, source: Path, out: Path, *extra: str) -> list[dict[str, object]]:
    assert main(["predict", TASK, "--bundle", str(bundle.path), str(source), "-o", str(out), *extra]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_one_answer_a_line_in_order_errors_included(tmp_path: Path, tiny_bundle: Bundle) -> None:
    lines = [
        '{"text": "A fine film."}',
        "not JSON",
        '{"text": ""}',
        '{"inputs": {"text": "Dull."}}',
        "[1, 2]",
        '{"text": 7}',
        '{"texts": "x"}',
        '{"text": "' + "a" * 20_001 + '"}',
        "[" * 5_000,
        '{"text": "The end 🎬."}',
    ]
    source = tmp_path / "requests.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    answers = _predict(tiny_bundle, source, tmp_path / "answers.jsonl", "--batch-size", "3")
    assert ["output" in answer for answer in answers] == [True, False, False, True, *[False] * 5, True]
    for answer in answers:
        if "error" in answer:
            assert set(answer["error"]) == {"field", "message"}  # type: ignore[arg-type]
    assert [w["text"] for w in answers[-1]["output"]["words"]] == ["The", "end", "🎬", "."]  # type: ignore[index]


def test_a_file_may_begin_with_the_mark_that_windows_sets(tmp_path: Path, tiny_bundle: Bundle) -> None:
    source = tmp_path / "requests.jsonl"
    source.write_text('{"text": "A fine film."}', encoding="utf-8-sig")
    (answer,) = _predict(tiny_bundle, source, tmp_path / "answers.jsonl")
    assert "output" in answer, answer


def test_the_batch_size_changes_no_answer(tmp_path: Path, tiny_bundle: Bundle) -> None:
    source = tmp_path / "requests.jsonl"
    source.write_text("".join(json.dumps({"text": "good " * n}) + "\n" for n in range(1, 30)), encoding="utf-8")
    alone = _predict(tiny_bundle, source, tmp_path / "1.jsonl", "--batch-size", "1")
    many = _predict(tiny_bundle, source, tmp_path / "16.jsonl", "--batch-size", "16")
    for a, b in zip(alone, many, strict=True):
        assert a["output"]["label"] == b["output"]["label"]  # type: ignore[index]
        assert a["output"]["score"] == pytest.approx(b["output"]["score"], abs=1e-4)  # type: ignore[index]


def test_it_streams_from_a_pipe_and_closes_quietly(tiny_bundle: Bundle) -> None:
    command = [sys.executable, "-m", "mlcore", "predict", TASK, "--bundle", str(tiny_bundle.path), "-"]
    done = subprocess.run(command, input='{"text": "Good."}\n' * 3, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3
    many = '{"text": "Good."}\n' * 20_000
    script = f"{sys.executable} -m mlcore predict {TASK} --bundle {tiny_bundle.path} - | head -1"
    cut = subprocess.run(["bash", "-c", script], input=many, capture_output=True, text=True, check=True)
    assert json.loads(cut.stdout)["output"]
    assert "Traceback" not in cut.stderr


def test_bytes_of_another_encoding_are_read_from_standard_input_too(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = b'{"text": "Good."}\n{"text": "caf\xe9"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii", errors="strict"))
    assert main(["predict", TASK, "--bundle", str(tiny_bundle.path), "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_split_without_sentences_is_no_score_of_nought(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "metrics.json"
    before.write_text("of an earlier evaluation")
    command = ["evaluate", str(tiny_bundles["translation"].path), "--data", str(tmp_path), "--split", "test"]
    assert main([*command, "-o", str(before)]) == 2
    assert "no sentence pairs of the split 'test'" in capsys.readouterr().err
    assert before.read_text() == "of an earlier evaluation"


def test_a_labelled_split_takes_no_options(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_bundle.path), "--data", "missing", "--options", '{"x": 1}']) == 2
    assert "--options go with --file" in capsys.readouterr().err


def test_one_text(capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle) -> None:
    assert main(["predict", TASK, "--bundle", str(tiny_bundle.path), "--text", "Not bad."]) == 0
    assert json.loads(capsys.readouterr().out)["output"]["label"] in ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "no-such-task", "--text", "x"], "no-such-task"),
        (["predict", TASK, "--variant", "xx", "--text", "x"], "xx"),
        (["predict", TASK], "INPUT.jsonl or --text"),
        (["predict", TASK, "missing.jsonl"], "cannot be read"),
        (["predict", TASK, "--bundle", "missing", "--text", "x"], "missing"),
        (["verify", "missing"], "missing"),
        (["train", TASK, "--data", "missing", "--size", "tiny", "--out", "x", "--init", "missing"], "missing"),
        (
            ["train", TASK, "--data", "missing", "--size", "tiny", "--out", "kept"],
            "is no bundle, so it is not replaced",
        ),
        (["train", TASK, "--data", "missing", "--size", "tiny", "--out", "kept/a"], "is no bundle, so it is not rep"),
        (["train", TASK, "--data", "missing", "--size", "tiny", "--out", "."], "is no bundle, so it is not replaced"),
        (
            ["train", "translation", "--data", "missing", "--size", "tiny", "--out", "x"],
            "no sentence pairs to train on",
        ),
        (["predict", TASK, "kept/a", "-o", "kept/../kept/a"], "requests would be lost"),
    ],
)
def test_a_wrong_command_is_told_why(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNROLL_CHECKPOINTS", str(tmp_path / "checkpoints"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("mine")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert (tmp_path / "kept" / "a").read_text() == "mine"


@pytest.mark.parametrize("options", ["[1]", "{", '"x"'])
def test_options_must_be_an_object(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", TASK, "--options", options, "--text", "x"])
    assert ended.value.code == 2
    assert "JSON" in capsys.readouterr().err


def test_tasks_and_verify(capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle) -> None:
    assert main(["tasks"]) == 0
    assert f"{TASK}/en@" in capsys.readouterr().out
    assert main(["verify", str(tiny_bundle.path)]) == 0
    assert "is whole" in capsys.readouterr().out


def test_any_text_is_evaluated_by_a_language_model(
    tiny_bundles: dict[str, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(tiny_bundles["text-generation"].path), "--file"]
    unix, windows, out = tmp_path / "unix.txt", tmp_path / "windows.txt", tmp_path / "out.json"
    unix.write_bytes(b"The fog lay thick.\nIt was dark.\n")
    windows.write_bytes("\ufeffThe fog lay thick.\r\nIt was dark.\r\n".encode())
    assert main([*command, str(unix), "--options", '{"voice": "austen"}']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["characters"] == 32
    assert found["bits_per_character"] > 0
    out.write_text("of an earlier evaluation, and longer than what comes now " * 3)
    assert main([*command, str(windows), "--options", '{"voice": "austen"}', "-o", str(out)]) == 0
    assert json.loads(out.read_text()) == found
    capsys.readouterr()
    assert main([*command, str(unix), "-o", str(tmp_path / "missing" / "out.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf")
    for name, said in (("empty.txt", "holds no text"), ("missing.txt", "cannot be read: No such file")):
        assert main([*command, str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
