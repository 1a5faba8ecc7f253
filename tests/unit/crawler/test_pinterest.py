from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from libs.common.messages import Reason
from services.crawler import listing, pinterest
from services.crawler.failure import Refused
from services.crawler.pinterest import Answer


def refused(answer: Answer) -> Refused:
    with pytest.raises(Refused) as caught:
        pinterest.envelope_in(answer)
    return caught.value


def test_a_search_asks_for_full_pins_with_the_headers_that_the_site_requires() -> None:
    asked = listing.of_search("ceramic glaze & co").asked("c1")
    words = parse_qs(urlsplit(asked.path).query)
    options = json.loads(words["data"][0])["options"]
    assert (options["query"], options["scope"], options["gated"]) == ("ceramic glaze & co", "videos", False)
    assert options["bookmarks"] == ["c1"]
    assert options["page_size"] <= 250
    assert asked.headers["X-Pinterest-PWS-Handler"] == "www/search/[scope].js"
    assert words["source_url"] == [asked.headers["X-Pinterest-Source-Url"]]


@pytest.mark.parametrize("bookmark", [None, "-end-", "", "Y2JOb25lO2hhc2g="])
def test_the_end_is_known_by_its_cursor(bookmark: str | None) -> None:
    assert pinterest.is_end(bookmark)
    assert not pinterest.is_end("Y2JVSG81")


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        (429, Reason.RATE_LIMITED, True),
        (500, Reason.UNREACHABLE, True),
        (503, Reason.UNREACHABLE, True),
        (403, Reason.BLOCKED, False),
        (401, Reason.LOGIN_REQUIRED, False),
        (400, Reason.UPSTREAM_CHANGED, False),
    ],
)
def test_a_status_is_refused_with_its_reason(status: int, reason: Reason, transient: bool) -> None:
    for body in ("", "<html></html>", '{"resource_response": {}}'):
        refusal = refused(Answer(status=status, body=body, content_type="text/html"))
        assert (refusal.reason, refusal.transient) == (reason, transient)


def test_a_page_instead_of_results_asks_for_a_login() -> None:
    assert refused(Answer(status=200, body=" <!doctype html>")).reason is Reason.LOGIN_REQUIRED


def test_broken_json_is_worth_another_try() -> None:
    assert refused(Answer(status=200, body='{"resource_resp')).transient


def test_an_error_in_the_envelope_counts_as_its_status() -> None:
    body = msgspec.json.encode({"resource_response": {"error": {"http_status": 403, "message": "no"}}}).decode()
    assert refused(Answer(status=200, body=body)).reason is Reason.BLOCKED


def test_another_shape_is_told_of() -> None:
    refusal = refused(Answer(status=200, body='{"payload": {}}'))
    assert (refusal.reason, refusal.transient) == (Reason.UPSTREAM_CHANGED, False)
    assert "no resource_response" in refusal.message


def test_retry_after_is_read_in_both_forms_and_has_a_cap() -> None:
    assert pinterest.seconds("7") == 7
    later = pinterest.seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=30)))
    assert later is not None and 28 < later <= 30
    assert pinterest.seconds("soon") is None
    assert not refused(Answer(status=429, retry_after="3600")).transient


def test_the_pages_own_request_is_made_to_ask_for_full_pins() -> None:
    data = json.dumps({"options": {"gated": True, "query": "a b"}, "context": {}})
    url = "https://x/resource/BaseSearchResource/get/?" + "source_url=%2Fsearch%2F&data=" + json.dumps(data)[1:-1]
    plain = pinterest.ungated("https://x/resource/BaseSearchResource/get/?a=1&data=%7Bnot")
    assert parse_qs(urlsplit(plain).query) == {"a": ["1"], "data": ["{not"]}
    assert listing.of_search("x").is_asked_by(url)
    changed = pinterest.ungated(f"https://x/resource/BaseSearchResource/get/?data={data}")
    assert json.loads(parse_qs(urlsplit(changed).query)["data"][0])["options"] == {"gated": False, "query": "a b"}
