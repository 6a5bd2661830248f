"""Nothing is lost and nothing is answered twice, with real processes and real kills."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import make_bundle

from .conftest import ROOT, SERVICES, TASK, Stack, until, web

pytestmark = pytest.mark.stack


def test_a_job_is_done_while_the_caller_waits(stack: Stack) -> None:
    job = stack.post("A wonderful film.", wait=30)
    assert job["status"] == "succeeded"
    assert job["output"]["label"] == "positive"


def test_a_command_typed_beside_it_finds_its_redis(stack: Stack) -> None:
    assert "Redis" not in stack.manage("doctor")


def test_events_tell_of_a_job(stack: Stack) -> None:
    job = stack.post("A dull film.")
    with web.stream("GET", stack.url + job["urls"]["events"]) as answer:
        text = "".join(answer.iter_text())
    assert answer.headers["content-type"] == "text/event-stream"
    assert text.rstrip().split("event: ")[-1].startswith("done\n")
    assert json.loads(text.rstrip().rsplit("data: ", 1)[1])["status"] == "succeeded"


def test_a_thousand_lines_come_back_in_order_and_batched(stack: Stack) -> None:
    items = [{"inputs": {"text": f"Number {n} is {'good' if n % 2 else 'bad'}."}} for n in range(1_000)]
    created = web.post(f"{stack.url}/api/v1/batches", json={"task": TASK, "items": items}, timeout=60)
    assert created.status_code == 202
    urls = created.json()["batch"]["urls"]
    until(lambda: web.get(stack.url + urls["get"]).json()["counts"]["succeeded"] == 1_000, 180)
    rows = list(csv.DictReader(io.StringIO(web.get(stack.url + urls["csv"], timeout=60).text)))
    assert [row["text"] for row in rows] == [item["inputs"]["text"] for item in items]
    right = sum(row["label"] == ("positive" if n % 2 else "negative") for n, row in enumerate(rows))
    assert right > 700
    with web.stream("GET", stack.url + urls["events"]) as answer:
        assert "event: done" in "".join(answer.iter_text())


def test_without_redis_a_submit_is_answered_at_once_and_done_later(stack: Stack) -> None:
    stack.stop_redis()
    try:
        started = time.monotonic()
        job = stack.post("A good film.")
        assert time.monotonic() - started < 5, "kombu's own patience is longer"
        assert job["status"] == "queued"
        assert web.get(f"{stack.url}/healthz/ready").status_code == 503
    finally:
        stack.start_redis()
    assert stack.finish(job, 90)["status"] == "succeeded"


def test_a_worker_killed_in_the_middle_of_a_batch_loses_nothing(saboteur: Stack) -> None:
    jobs = [saboteur.post(f"SLOW {n}") for n in range(30)]
    worker = saboteur.pid("fast")

    def holds_a_batch() -> bool:
        """Stop the worker, then look: a batch may otherwise end between the look and the kill."""
        os.kill(worker, signal.SIGSTOP)
        if any(saboteur.get(job)["status"] == "running" for job in jobs):
            return True
        os.kill(worker, signal.SIGCONT)
        return False

    until(holds_a_batch)
    os.kill(worker, signal.SIGKILL)
    done = [saboteur.finish(job, 90) for job in jobs]
    assert {job["status"] for job in done} == {"succeeded"}
    assert max(job["attempts"] for job in done) >= 2


def test_an_emptied_redis_loses_nothing(saboteur: Stack) -> None:
    saboteur.supervisor.stopProcess("fast")
    jobs = [saboteur.post(f"text {n}") for n in range(10)]
    until(lambda: "No worker is running" in (saboteur.get(jobs[0])["waiting"] or ""))
    saboteur.empty_redis()
    saboteur.supervisor.startProcess("fast")
    assert {saboteur.finish(job, 60)["status"] for job in jobs} == {"succeeded"}


def test_everything_killed_at_once_loses_nothing(saboteur: Stack) -> None:
    items = [{"inputs": {"text": f"SLOW {n}"}} for n in range(20)]
    batch = web.post(f"{saboteur.url}/api/v1/batches", json={"task": TASK, "items": items}, timeout=60).json()["batch"]
    place = saboteur.url + batch["urls"]["get"]
    until(lambda: web.get(place).json()["counts"]["running"])
    saboteur.kill_everything()
    saboteur.start()
    until(lambda: web.get(place).json()["counts"]["succeeded"] == 20, 90)


def test_a_poisonous_and_a_hanging_input_fail_in_words_and_burn_no_neighbour(saboteur: Stack) -> None:
    poison, hang = saboteur.post("KILL"), saboteur.post("HANG")
    good = [saboteur.post(f"text {n}") for n in range(5)]
    assert {saboteur.finish(job, 120)["status"] for job in good} == {"succeeded"}
    for job in (poison, hang):
        ended = saboteur.finish(job, 180)
        assert ended["status"] == "failed"
        assert "tried 3 times" in ended["error"]["message"]


def test_a_second_version_answers_after_the_next_start_and_can_be_rolled_back(
    own_saboteur: Stack, tmp_path_factory
) -> None:  # type: ignore[no-untyped-def]
    assert own_saboteur.post("text", wait=30)["version"].endswith("@1")
    own_saboteur.stop()
    place = own_saboteur.checkout / "mlcore" / "bundles" / TASK / "en"
    shutil.rmtree(place)
    shutil.copytree(make_bundle(TASK, tmp_path_factory.mktemp("two"), version=2).path, place)
    own_saboteur.start()
    job = own_saboteur.post("text", wait=30)
    assert (job["version"], job["status"]) == (f"{TASK}/en@2", "succeeded")
    own_saboteur.manage("roll_back", f"{TASK}/en")
    job = own_saboteur.post("text", wait=30)
    assert (job["version"], job["status"]) == (f"{TASK}/en@1", "succeeded")


SWITCH = """
import sys, django; django.setup()
from pathlib import Path
from webapp.jobs import switching
from webapp.registry import services
second = services.install(Path(sys.argv[1]))
first = services.active(second.task, second.variant)
for turn in range(20):
    switching.switch_and_wait(first if turn % 2 else second, reason=f"turn {turn}")
"""


def test_twenty_switches_under_load_fail_no_job(
    saboteur: Stack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    second = make_bundle(TASK, tmp_path / "two", version=2)
    environment = {
        **saboteur.environment,
        "UNROLL_STATE": str(saboteur.state),
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "PATH": "/usr/bin",
        "TMPDIR": tempfile.gettempdir(),  # where a product's sockets lie
    }
    switching = subprocess.Popen(
        [sys.executable, "-c", SWITCH, str(second.path)], cwd=saboteur.checkout, env=environment, stderr=subprocess.PIPE
    )
    request.addfinalizer(switching.kill)
    sent, bound = [], set()
    while switching.poll() is None or len(sent) < 100:  # batches of twenty
        items = [{"inputs": {"text": f"Number {len(sent)}.{n} is good."}} for n in range(20)]
        created = web.post(f"{saboteur.url}/api/v1/batches", json={"task": TASK, "items": items}, timeout=60)
        if created.status_code == 429:  # a slow machine: so many wait already
            time.sleep(int(created.headers["Retry-After"]))
            continue
        assert created.status_code == 202, created.text
        sent.append(created.json())
        bound |= {job["version"] for job in sent[-1]["jobs"]}
        time.sleep(0.2 if switching.poll() is None else 0)
    assert switching.returncode == 0, switching.stderr.read().decode()[-2000:]  # type: ignore[union-attr]
    assert len(sent) >= 100
    assert bound == {f"{TASK}/en@1", f"{TASK}/en@2"}
    for batch in sent:
        place = saboteur.url + batch["batch"]["urls"]["get"]
        until(lambda place=place: web.get(place).json()["counts"]["succeeded"] == 20, 120)  # type: ignore[misc]
    for batch in sent[::10]:
        for job in batch["jobs"]:
            assert saboteur.get(job)["version"] == job["version"], "an answer names the version it was asked of"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_end_every_process(own_saboteur: Stack, number: signal.Signals) -> None:
    pids = [process["pid"] for process in own_saboteur.supervisor.getAllProcessInfo() if process["pid"]]
    assert len(pids) == (4 if SERVICES else 5), "web, two workers, the scheduler, and a Redis where it is ours"
    again = launch(own_saboteur.state.parent, UNROLL_STATE=str(own_saboteur.state))
    assert again.returncode == 1
    assert "already" in again.stderr and again.stderr.count("\n") == 1
    own_saboteur.stop(number)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def launch(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webapp.launch"],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "TMPDIR": tempfile.gettempdir(),
            "UNROLL_STATE": str(tmp_path / "state"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_output_that_cannot_be_opened_again_is_carried_on(tmp_path: Path) -> None:
    """A socket, as under systemd."""
    ours, theirs = socket.socketpair()
    code = "from webapp.launch import keep_output_open as keep; keep(); open('/dev/fd/1', 'ab', 0).write(b'heard')"
    with ours, theirs:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, check=True, timeout=60)
        ours.settimeout(20)
        assert ours.recv(100) == b"heard"


def test_a_taken_port_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = launch(tmp_path, PORT=str(port))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Port {port} on 127.0.0.1 is taken")
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_none_is_said_in_one_sentence(tmp_path: Path) -> None:
    ended = launch(tmp_path, PORT="eighty")
    assert ended.returncode == 1
    assert "must be a number" in ended.stderr and ended.stderr.count("\n") == 1


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp import launch as launcher

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 5 << 20))  # type: ignore[attr-defined]
    with pytest.raises(launcher.GroundError, match="5 MB left"):
        launcher.check_disk(tmp_path)


def test_a_worker_told_to_stop_leaves_at_once(saboteur: Stack) -> None:
    pid = saboteur.pid("fast")
    os.kill(pid, signal.SIGTERM)
    until(lambda: saboteur.pid("fast") not in (0, pid), 30)
    assert saboteur.post("text", wait=30)["status"] == "succeeded"


def test_texts_that_are_being_written_survive_a_killed_worker(tiny_stack: Stack) -> None:
    options = [{"seed": seed, "max_new_tokens": 250} for seed in range(3)]
    bodies = [{"task": "text-generation", "inputs": {"prompt": "The fog"}, "options": o} for o in options]
    url = f"{tiny_stack.url}/api/v1/jobs"
    whole = web.post(url, json=bodies[0], timeout=40).json()
    expected = tiny_stack.finish(whole)["output"]["generated_text"]
    jobs = [web.post(url, json=body, timeout=40).json() for body in bodies]
    until(lambda: all(tiny_stack.get(job)["partial"] for job in jobs), 60)
    tiny_stack.kill("fast")
    found = [tiny_stack.finish(job, 120) for job in jobs]
    assert [job["status"] for job in found] == ["succeeded"] * 3
    assert all(len(job["output"]["tokens"]) == 250 for job in found)
    assert found[0]["output"]["generated_text"] == expected
    with web.stream("GET", tiny_stack.url + found[1]["urls"]["events"]) as answer:
        assert "event: done" in "".join(answer.iter_text())


def test_a_reader_that_comes_back_hears_what_it_missed_and_nothing_twice(tiny_stack: Stack) -> None:
    body = {"task": "text-generation", "inputs": {"prompt": "The fog"}, "options": {"seed": 1, "max_new_tokens": 400}}
    job = web.post(f"{tiny_stack.url}/api/v1/jobs", json=body, timeout=40).json()
    url = tiny_stack.url + job["urls"]["events"]
    before, last = hear(url, deltas=2)
    assert 0 in before
    after, _ = hear(url, last=last)
    output = tiny_stack.finish(job)["output"]
    assert after
    assert 0 not in after
    assert [({**before, **after})[place] for place in range(400)] == [token["text"] for token in output["tokens"]]


def hear(url: str, *, deltas: int = 0, last: str = "") -> tuple[dict[int, str], str]:
    """Tokens by their place, and the last id, of a job's events: so many deltas of them, or all."""
    found: dict[int, str] = {}
    event, heard = "", 0
    with web.stream("GET", url, headers={"Last-Event-ID": last} if last else {}, timeout=60) as answer:
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "id":
                last = value
            elif name == "data" and event == "delta":
                part = json.loads(value)["part"]
                found |= dict(enumerate((token["text"] for token in part["tokens"]), part["start"]))
                heard += 1
                if deltas and heard >= deltas and last:
                    break
    return found, last
