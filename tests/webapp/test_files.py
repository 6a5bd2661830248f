"""Uploads: what is taken, who may open it, and what a job does with it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from PIL import Image

from mlcore.bundle import Bundle
from webapp.jobs import files, upkeep
from webapp.jobs.models import File, Job
from webapp.jobs.server import Server
from webapp.registry import services as registry

pytestmark = pytest.mark.django_db
Post = Callable[..., Any]
UPLOADS, JOBS, TASK = "/api/v1/uploads", "/api/v1/jobs", "image-captioning"
RUN = "/tasks/photos/run"


@pytest.fixture(autouse=True)
def _media(settings: Any, tmp_path: Path, tiny_bundles: dict[str, Bundle]) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MIN_FREE_DISK_MB = 0
    registry.activate(registry.install(tiny_bundles[TASK].path))


def photo(form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), "teal").save(buffer, form, **options)
    return buffer.getvalue()


def upload(client: Client, data: bytes, name: str = "x.jpg") -> Any:
    return client.post(UPLOADS, {"file": SimpleUploadedFile(name, data)})


def run_all() -> None:
    server = Server(["fast"], device="cpu")
    while server.serve():
        pass


@pytest.fixture
def visitor(client: Client) -> Client:
    """A browser with a session, made by running the form without a photo."""
    client.post(RUN, {"image": SimpleUploadedFile("a.txt", b"no photo")})
    return client


def test_an_upload_becomes_a_caption(client: Client, post_json: Post) -> None:
    created = upload(client, photo())
    assert created.status_code == 201
    assert created.json()["size"] == len(photo())
    job = post_json(JOBS, {"task": TASK, "inputs": {"image": created.json()["id"]}}).json()
    run_all()
    done = client.get(job["urls"]["get"]).json()
    assert done["status"] == "succeeded", done["error"]
    assert done["output"]["generated_text"].endswith(".")
    assert len(done["output"]["words"][0]["attention"]) == 4


def test_an_upload_that_no_job_names_can_be_erased(client: Client, post_json: Post) -> None:
    pk = upload(client, photo()).json()["id"]
    assert Client().delete(f"{UPLOADS}/{pk.split(':')[0]}").status_code == 404, "its id without the token"
    assert client.delete(f"{UPLOADS}/{pk.replace(':', '?token=', 1)}").status_code == 204
    assert not File.objects.exists()
    assert client.delete(f"{UPLOADS}/{pk}").status_code == 404
    named = upload(client, photo()).json()["id"]
    job = post_json(JOBS, {"task": TASK, "inputs": {"image": named}}).json()
    refused = client.delete(f"{UPLOADS}/{named}")
    assert refused.status_code == 422
    assert "Erase the job" in refused.json()["error"]["message"]
    assert client.delete(job["urls"]["get"]).status_code == 204
    assert not File.objects.exists()


def test_a_form_takes_a_photo(visitor: Client) -> None:
    answer = visitor.post(RUN, {"image": SimpleUploadedFile("a.png", photo("PNG"))})
    assert answer.status_code == 302
    run_all()
    assert visitor.get(answer["Location"]).status_code == 200
    assert Job.objects.get().status == "succeeded"
    assert "There is nothing" not in visitor.get(answer["Location"]).content.decode()


def test_base64_inside_the_request(client: Client, post_json: Post, settings: Any) -> None:
    data = base64.b64encode(photo()).decode()
    assert post_json(JOBS, {"task": TASK, "inputs": {"image": {"base64": data}}}).status_code == 202
    assert File.objects.get().size == len(photo())
    for bad in ({"base64": "%%%"}, {"base64": 7}, {"base64": data, "x": 1}, {}, 7, ["x"], {"base64": "aGVsbG8="}):
        answer = post_json(JOBS, {"task": TASK, "inputs": {"image": bad}})
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, "image"), bad
    settings.MAX_BASE64_BYTES = 100
    assert (
        "uploads" in post_json(JOBS, {"task": TASK, "inputs": {"image": {"base64": data}}}).json()["error"]["message"]
    )


def test_a_refused_request_keeps_no_file_and_a_repeated_one_no_second(
    client: Client, post_json: Post, visitor: Client
) -> None:
    image = {"image": {"base64": base64.b64encode(photo()).decode()}}
    bad = {"task": TASK, "inputs": image, "options": {"beam_size": 99}}
    assert post_json(JOBS, bad).status_code == 422
    items = [{"inputs": image, "options": bad["options"]}, {"inputs": image}]
    assert not File.objects.exists()
    created = post_json("/api/v1/batches", {"task": TASK, "items": items}).json()
    assert ["id" in job for job in created["jobs"]] == [False, True]
    assert File.objects.count() == 1
    body = {"task": TASK, "inputs": image}
    first, again = (visitor.post(JOBS, body, "application/json", headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert File.objects.count() == 2
    assert len(list(Path(default_storage.location).glob("uploads/*/*"))) == 2  # type: ignore[attr-defined]


def test_what_is_shown_of_a_photo_is_kept_once_and_goes_with_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(client, photo())
    file = File.objects.get()
    key = files._shown_key(file, "large")
    folder = Path(default_storage.path(key)).parent
    plain = files.decoder.shared().to_show
    meanwhile: list[Callable[[], Any]] = [
        lambda: default_storage.save(key, ContentFile(b"another request was first")),
        lambda: default_storage.delete(key) or files.erase([file]),
    ]

    def slow(path: Path, side: int) -> bytes:
        data = plain(path, side)
        meanwhile.pop(0)()
        return data

    monkeypatch.setattr(files.decoder.shared(), "to_show", slow)
    files.shown(file)
    assert [path.name for path in folder.iterdir()] == [Path(key).name]
    default_storage.delete(key)
    files.shown(file)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["/etc/passwd", "../../db.sqlite3", "x", "00000000-0000-4000-8000-000000000000"])
def test_no_job_names_a_path_of_this_machine(name: str, post_json: Post) -> None:
    answer = post_json(JOBS, {"task": TASK, "inputs": {"image": name}})
    assert answer.status_code == 422
    assert "no upload" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "empty"), (b"MZ not a photo", "no photo"), (b"<svg onload='x'/>", "SVG")]
)
def test_what_is_no_photo_is_refused_before_it_is_kept(data: bytes, said: str, client: Client) -> None:
    answer = upload(client, data)
    assert answer.status_code == 422
    assert said in answer.json()["error"]["message"]
    assert not File.objects.exists()


def test_size_share_and_disk_have_limits(client: Client, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 1 << 20
    assert "larger than 1 MB" in upload(client, photo() + b"\0" * (1 << 20)).json()["error"]["message"]
    assert upload(client, photo()).status_code == 201
    settings.UPLOAD_QUOTA_MB = 0
    assert "at most 0 MB" in upload(client, photo()).json()["error"]["message"]
    settings.MIN_FREE_DISK_MB = 1 << 40
    assert "disk" in upload(client, photo()).json()["error"]["message"]
    assert File.objects.count() == 1


def test_a_damaged_photo_fails_its_job_in_words(client: Client, post_json: Post) -> None:
    name = upload(client, photo()[:200]).json()["id"]
    job = post_json(JOBS, {"task": TASK, "inputs": {"image": name}}).json()
    run_all()
    done = client.get(job["urls"]["get"]).json()
    assert done["status"] == "failed"
    assert done["error"]["field"] == "image"
    assert "damaged" in done["error"]["message"]


def test_nobody_opens_another_ones_photo(visitor: Client, post_json: Post) -> None:
    visitor.post(RUN, {"image": SimpleUploadedFile("a.jpg", photo(comment=b"secret"))})
    file = File.objects.get()
    shown = visitor.get(f"/photos/{file.pk}.webp")
    assert (shown.status_code, shown["Content-Type"]) == (200, "image/webp")
    assert shown["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in shown["Content-Security-Policy"]
    assert b"secret" not in shown.content
    stranger = Client()
    assert stranger.get(f"/photos/{file.pk}.webp").status_code == 404
    body = {"task": TASK, "inputs": {"image": str(file.pk)}}
    assert stranger.post(JOBS, body, content_type="application/json").status_code == 422


def test_an_upload_of_nobody_opens_with_its_token_only(client: Client) -> None:
    pk, token = upload(client, photo()).json()["id"].split(":", 1)
    assert client.get(f"/photos/{pk}.webp").status_code == 404
    assert client.get(f"/photos/{pk}.webp?token=x").status_code == 404
    assert client.get(f"/photos/{pk}.webp?token={token}").status_code == 200


def test_erasing_the_job_erases_its_photo(client: Client, post_json: Post) -> None:
    name = upload(client, photo()).json()["id"]
    first, second = (post_json(JOBS, {"task": TASK, "inputs": {"image": name}}).json() for _ in range(2))
    key = File.objects.get().key
    assert client.delete(first["urls"]["get"]).status_code == 204
    assert default_storage.exists(key)
    assert client.delete(second["urls"]["get"]).status_code == 204
    assert not default_storage.exists(key)
    assert not File.objects.exists()


def test_what_no_job_names_goes_with_time(client: Client, settings: Any) -> None:
    upload(client, photo())
    upkeep.delete_old()
    assert File.objects.exists()
    File.objects.update(created_at=timezone.now() - timedelta(days=settings.RETENTION_DAYS + 1))
    key = File.objects.get().key
    upkeep.delete_old()
    assert not File.objects.exists()
    assert not default_storage.exists(key)


def test_a_batch_of_photos(client: Client, post_json: Post) -> None:
    names = [upload(client, photo(quality=quality)).json()["id"] for quality in (60, 90)]
    items = [{"inputs": {"image": name}} for name in [*names, "nothing"]]
    created = post_json("/api/v1/batches", {"task": TASK, "items": items}).json()
    assert ["error" in job and job["error"] is not None for job in created["jobs"]] == [False, False, True]
    run_all()
    assert client.get(created["batch"]["urls"]["get"]).json()["counts"]["succeeded"] == 2


def test_bytes_without_a_row_do_not_stay(client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(File.objects, "create", full)
    with pytest.raises(OperationalError):
        client.post(RUN, {"image": SimpleUploadedFile("a.jpg", photo())})
    assert not [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
