"""The served pages, over HTTP: who may read them, what they may load, and that nothing is written."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import pytest


def asked(
    served: str, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], str]:
    connection = http.client.HTTPConnection(str(urlsplit(served).netloc), timeout=30)
    connection.request(method, path, headers=dict(headers or {}))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


PATHS = ["/", "/round/1", "/round/1/prompts", "/round/1/prompt/script", "/round/1/canaries", "/round/1/held-out"]
PATHS += ["/replies", "/reply/1", "/static/style.css", "/static/viewer.js", "/static/code.css", "/pulse"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_forbids_inline_code_and_other_hosts(served: str, path: str) -> None:
    status, headers, text = asked(served, path)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["cross-origin-resource-policy"] == "same-origin"
    assert "<style" not in text and " style=" not in text and "<script>" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_is_refused(served: str, host: str) -> None:
    status, _, text = asked(served, "/", headers={"Host": host})
    assert status == 421 and "sample" not in text


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80", "192.168.0.7"])
def test_an_address_or_localhost_is_let_in(served: str, host: str) -> None:
    assert asked(served, "/pulse", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading_is_possible(served: str, method: str) -> None:
    assert asked(served, "/", method)[0] == 405


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/round/9", 404, "it has 0, 1, 2"),
        ("/round/1/prompt/nobody", 404, "has no prompt nobody"),
        ("/round/1/held-out/nobody", 404, "no held-out problem nobody"),
        ("/reply/99999999", 404, "no reply 99999999"),
        ("/round/1/prompts?outcome=%3Cb%3E", 400, "is one of accepted, refused, mixed, trained"),
        ("/round/1/held-out?result=most", 400, "is one of all, some, none"),
        ("/static/..%2Fapp.py", 404, ""),
    ],
)
def test_a_wrong_address_says_what_there_is(served: str, path: str, status: int, told: str) -> None:
    found, _, text = asked(served, path)
    assert found == status and told in text and "<b>" not in text


def test_an_id_leads_to_its_prompt(served: str) -> None:
    status, headers, _ = asked(served, "/find?id=mix")
    assert (status, headers["location"]) == (303, "/round/2/prompt/mixed")
    assert "plain-007" in asked(served, "/find?id=plain")[2]
    assert "None." in asked(served, "/find?id=zzz")[2]


def test_the_pulse_counts_rounds_and_replies(served: str) -> None:
    pulse = json.loads(asked(served, "/pulse")[2])
    assert (pulse["rounds"], pulse["stopped"], pulse["working"]) == (3, True, False) and pulse["replies"] > 100
