"""The page of photos and the gallery: one drop asks every task, and only the owner sees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from mlcore.bundle import Bundle
from mlcore.tasks.image_tagging import NO_TAG
from webapp.jobs.models import File, Job, JobContent, Status
from webapp.jobs.owners import make_token
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import TaskSetting

pytestmark = pytest.mark.django_db
RUN, PAGE, GALLERY = "/tasks/photos/run", "/tasks/photos/", "/photos/"
CAPTIONS, TAGS = "image-captioning", "image-tagging"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _ground(settings: Any, tmp_path: Path, tiny_bundles: dict[str, Bundle]) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MIN_FREE_DISK_MB = 0
    for name in (CAPTIONS, TAGS):
        registry.activate(registry.install(tiny_bundles[name].path))


def photo(colour: str = "teal") -> SimpleUploadedFile:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(buffer, "JPEG")
    return SimpleUploadedFile(f"{colour}.jpg", buffer.getvalue())


def send(client: Client, **fields: Any) -> Any:
    return client.post(RUN, {"image": photo(), **fields}, headers=HTMX)


def run_all() -> None:
    server = Server(["fast"], device="cpu")
    while server.serve():
        pass


def answer(file: File, caption: str, tags: str) -> None:
    for task, words in ((CAPTIONS, caption), (TAGS, tags)):
        file.jobs.filter(task=task).update(answer=words)


def test_photos_have_no_form_of_another_task(client: Client) -> None:
    for path in (f"/tasks/{CAPTIONS}/run", f"/tasks/{TAGS}/batch", f"/tasks/{TAGS}/document"):
        assert client.post(path, {"lines": "a"}).status_code == 404


def test_the_gallery_asks_for_all_photos_at_once(client: Client, django_assert_max_num_queries: Any) -> None:
    for colour in ("teal", "red", "blue", "green", "white", "black"):
        client.post(RUN, {"image": photo(colour)}, headers=HTMX)
    with django_assert_max_num_queries(9):
        assert client.get(GALLERY).content.decode().count('name="photo"') == 6


def test_a_photo_is_asked_about_by_every_task(client: Client) -> None:
    card = send(client).content.decode()
    assert {job.task for job in Job.objects.all()} == {CAPTIONS, TAGS}
    file = File.objects.get()
    assert all(list(job.files.all()) == [file] for job in Job.objects.all())
    assert f'id="photo-{file.pk}"' in card
    assert "data-live" in card
    run_all()
    done = client.get(f"/photos/{file.pk}/panel").content.decode()
    assert "data-live" not in done
    assert 'class="cell' in done
    assert "data-choice" in done
    assert 'class="tags"' in done
    assert "<rect" in done
    assert client.get(f"/photos/{file.pk}/").status_code == 200


def test_options_reach_their_own_task(client: Client) -> None:
    send(client, **{"option-num_alternatives": "0", "option-top_k": "2", "option-set": "coco"})
    run_all()
    contents = {row.job.task: row for row in JobContent.objects.select_related("job")}
    assert contents[CAPTIONS].output["alternatives"] == []
    assert len(contents[TAGS].output["tags"]) == 2
    assert contents[TAGS].options["set"] == "coco"
    assert "set" not in contents[CAPTIONS].options


def test_a_bad_option_or_file_is_said_in_a_sentence_and_keeps_nothing(client: Client) -> None:
    refused = send(client, **{"option-top_k": "0"})
    assert (refused.status_code, refused["Content-Type"].split(";")[0]) == (422, "text/plain")
    assert "must be from 1 to 1,000" in refused.content.decode()
    assert not File.objects.exists()
    assert not Job.objects.exists()
    assert "no photo" in send(client, image=SimpleUploadedFile("x.jpg", b"hello")).content.decode()


def test_a_form_without_a_script_takes_many(client: Client) -> None:
    many = client.post(RUN, {"image": [photo(), photo("red")]})
    assert (many.status_code, many["Location"]) == (302, GALLERY)
    assert File.objects.count() == 2
    one = client.post(RUN, {"image": photo()})
    assert client.get(one["Location"]).status_code == 200
    none = client.post(RUN, {})
    assert none.status_code == 422
    assert "A photo is missing" in none.content.decode()
    crowd = client.post(RUN, {"image": [photo() for _ in range(21)]})
    assert "at most 20" in crowd.content.decode()
    assert File.objects.count() == 3


def test_an_example_is_a_photo_too(client: Client) -> None:
    assert client.post(RUN, {"example": "1"}, headers=HTMX).status_code == 200
    assert File.objects.count() == 1
    for number in ("99", "9" * 5_000):
        assert client.post(RUN, {"example": number}, headers=HTMX).status_code == 422


def test_cancelling_stops_both(client: Client) -> None:
    send(client)
    pk = File.objects.get().pk
    card = client.post(f"/photos/{pk}/cancel", headers=HTMX).content.decode()
    assert "Cancelled" in card
    assert {job.status for job in Job.objects.all()} == {"cancelled"}


def test_the_gallery_filters_by_tag_and_by_word(client: Client) -> None:
    for words, tags in (("A dog runs on grass.", "dog, grass"), ("A hot dog on a plate.", "hot dog, plate")):
        send(client)
        answer(File.objects.order_by("-created_at")[0], words, tags)

    def shown(query: str) -> list[str]:
        page = client.get(f"{GALLERY}?{query}").content.decode()
        return [words for words in ("A dog runs", "A hot dog") if words in page]

    assert shown("") == ["A dog runs", "A hot dog"]
    assert shown("tag=dog") == ["A dog runs"]
    assert shown("tag=plate") == ["A hot dog"]
    assert shown("q=GRASS") == ["A dog runs"]
    assert shown("q=dog&tag=grass") == ["A dog runs"]
    assert shown("q=cat") == []
    assert "No photo fits" in client.get(f"{GALLERY}?q=cat").content.decode()


def test_deleting_erases_photo_answers_and_what_was_shown(client: Client) -> None:
    send(client)
    file = File.objects.get()
    assert client.get(f"/photos/{file.pk}.webp").status_code == 200
    small = client.get(f"/photos/{file.pk}-small.webp")
    assert Image.open(io.BytesIO(small.content)).format == "WEBP"
    kept = default_storage.listdir(f"shown/{file.key.split('/')[1]}")[1]
    assert len(kept) == 2
    assert client.post("/photos/delete", {"photo": [str(file.pk), "x"]}).status_code == 302
    assert not File.objects.exists()
    assert not Job.objects.exists()
    assert default_storage.listdir(f"shown/{file.key.split('/')[1]}")[1] == []


def test_a_stranger_finds_nothing(client: Client) -> None:
    send(client)
    file = File.objects.get()
    stranger = Client()
    send(stranger, image=SimpleUploadedFile("x", b"x"))  # has a session of its own
    for path in ("/", "/panel", ".webp", "-small.webp"):
        assert stranger.get(f"/photos/{file.pk}{path}").status_code == 404, path
    assert stranger.post(f"/photos/{file.pk}/cancel").status_code == 404
    stranger.post("/photos/delete", {"photo": str(file.pk)})
    assert File.objects.filter(pk=file.pk).exists()
    assert str(file.pk) not in stranger.get(GALLERY).content.decode()


def test_a_jobs_own_address_shows_its_card(client: Client) -> None:
    send(client)
    run_all()
    for job in Job.objects.all():
        page = client.get(f"/jobs/{job.pk}/").content.decode()
        assert ('class="tags"' in page) == (job.task == TAGS)
        assert ('class="cell' in page) == (job.task == CAPTIONS)
    assert client.get("/tasks/image-tagging/?example=2")["Location"] == "/tasks/photos/?example=2"


def test_without_a_model_the_page_says_so(client: Client) -> None:
    registry.ModelVersion.objects.update(status="retired")
    refused = send(client)
    assert refused.status_code == 422
    assert "installed" in refused.content.decode()


def test_a_task_that_is_off_keeps_no_other_from_a_photo(client: Client) -> None:
    TaskSetting.objects.create(task=TAGS, enabled=False)
    card = send(client)
    assert card.status_code == 200
    assert [job.task for job in Job.objects.all()] == [CAPTIONS]
    assert "Tag a photo is switched off" in client.get(PAGE).content.decode()
    TaskSetting.objects.create(task=CAPTIONS, enabled=False)
    refused = send(client)
    assert refused.status_code == 422
    assert "Tag a photo is switched off" in refused.content.decode()


def test_no_likely_tag_is_no_tag(client: Client) -> None:
    send(client)
    file = File.objects.get()
    answer(file, "A dog runs.", NO_TAG)
    file.jobs.update(status=Status.SUCCEEDED)
    assert NO_TAG not in client.get(GALLERY).content.decode()


def test_the_history_shows_a_photo_once_and_deletes_all_of_it(client: Client) -> None:
    send(client)
    file = File.objects.get()
    answer(file, "A dog runs.", "dog, grass")
    page = client.get("/history/").content.decode()
    assert page.count('class="thumb"') == 1
    assert "A dog runs." in page
    assert "dog, grass" in page
    client.post("/history/delete", {"row": f"photo:{file.pk}"})
    assert not Job.objects.exists()
    assert not File.objects.exists()


def test_who_came_by_a_token_judges_with_it(client: Client) -> None:
    send(client)
    run_all()
    for model in (Job, File):  # as a program without a key sends it: nobody's
        model._default_manager.update(session="")
    job = Job.objects.filter(task=CAPTIONS).get()
    address = f"/jobs/{job.pk}/?token={make_token(job.pk)}"
    judged = f"/jobs/{job.pk}/judge?token={make_token(job.pk)}"
    for place in (address, f"/jobs/{job.pk}/panel?token={make_token(job.pk)}"):
        assert f'hx-post="{judged}"' in Client().get(place).content.decode()
    assert "Thank you" in Client().post(judged, {"right": "yes"}, headers=HTMX).content.decode()
