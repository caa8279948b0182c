"""Errors, pictures and requests on the wire."""

import base64
import json

import pytest

from cloche.mcp import answer, images, stdio
from cloche.mcp.answer import Image
from cloche.model.errors import ClocheError, NotFoundError

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20
JPEG = b"\xff\xd8\xff" + b"x" * 20


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_an_error_has_code_message_and_remedy_in_text_and_in_data():
    told = answer.failure(NotFoundError("no sandbox \ud83d", remedy="make one"))
    assert told.is_error
    assert told.content[0].text == "not_found: no sandbox ���\nWhat helps: make one"
    wanted = {"success": False, "error": "no sandbox ���", "code": "not_found", "remedy": "make one", "notes": []}
    told.model_dump_json()
    assert told.structured_content == wanted


def test_a_long_error_is_cut():
    assert len(answer.failure(ClocheError("x" * 1_000_000)).content[0].text) < 10_000


def test_notes_follow_the_text_and_images_follow_the_notes():
    told = answer.result(answer.Reply(answer.Outcome(notes=["made one"]), "text", [Image("image/png", PNG)]))
    assert told.content[0].text == "text\n[made one]"
    assert (told.content[1].mime_type, told.content[1].data) == ("image/png", encoded(PNG))
    assert not told.is_error


def test_no_text_is_said():
    assert answer.result(answer.Reply(answer.Outcome(), "")).content[0].text == "(no output)"


@pytest.mark.parametrize(
    ("bundle", "kind"),
    [
        ({"image/png": encoded(PNG), "image/svg+xml": "<svg/>"}, "image/png"),
        ({"image/jpeg": encoded(JPEG)}, "image/jpeg"),
        ({"image/png": PNG}, "image/png"),
        ({"image/png": encoded(JPEG)}, None),
        ({"image/png": encoded(JPEG), "image/jpeg": encoded(JPEG)}, "image/jpeg"),
        ({"image/png": "no base64 !"}, None),
        ({"image/png": 5}, None),
        ({"image/png": "A" * (7 << 20)}, None),
        ({"image/svg+xml": "<svg xmlns='x'></svg>"}, "image/svg+xml"),
        ({"image/svg+xml": '<?xml version="1.0"?>\n<!-- a -->\n<svg >'}, "image/svg+xml"),
        ({"image/svg+xml": "<html><svg>"}, None),
        ({"image/svg+xml": "<!--" * 10_000}, None),
        ({"text/plain": "x"}, None),
    ],
)
def test_only_what_is_a_picture_is_shown_as_one(bundle, kind):
    found = images.of_bundle(bundle)
    assert (found.type if found else None) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"GIF89a", "image/gif"),
        (b"RIFF1234WEBP", "image/webp"),
        (b"RIFF1234WAVE", None),
        (b"", None),
        (PNG, "image/png"),
    ],
)
def test_kinds_of_images(data, kind):
    assert images.kind(data) == kind


def test_half_an_emoji_in_a_request_is_mended():
    line = json.dumps({"code": "print('\ud83d')", "whole": "🦀", "text": "\\ud83d"})
    mended = json.loads(stdio.repaired(line))
    assert mended == {"code": "print('?')", "whole": "🦀", "text": "\\ud83d"}


@pytest.mark.parametrize("line", ["{}", "no json \\ud83d", "[" * 100_000 + "\\ud83d"])
def test_other_requests_stay_as_they_are(line):
    assert stdio.repaired(line) == line
