"""Who may ask: tokens, cookies, names of the host, and pages of other sites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_parts import Client, problem_of, serving
from starlette.datastructures import Headers

from kineme.pipeline.serving import RunStudio
from kineme.retrieval.errors import RetrievalError
from kineme.retrieval.service.settings import ServiceSettings, check_address
from kineme.retrieval.service.tokens import COOKIE, Tokens

TOKEN = "open sesame"
BEARER = {"authorization": f"Bearer {TOKEN}"}
ROUTES = ("/", "/stats", "/metrics", "/openapi.json", "/clips/x", "/clips/x/video", "/map", "/traversal", "/nothing")


@pytest.fixture
def guarded(digits_index: Path, studio: RunStudio) -> Iterator[Client]:
    with serving(digits_index, studio, token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("route", ROUTES)
def test_everything_asks_for_the_token(guarded: Client, route: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{COOKIE}={TOKEN}"},
    ):
        response = guarded.get(route, headers=headers)
        assert "token is missing or wrong" in problem_of(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"


def test_posts_ask_for_it_before_a_byte_is_read(guarded: Client) -> None:
    for route in ("/search", "/predict", "/swap", "/traversal/frame"):
        problem_of(guarded.post(route, content=b"not even JSON"), 401)


def test_with_the_token_all_is_open(guarded: Client) -> None:
    assert guarded.get("/stats", headers=BEARER).json()["clips"] == 40
    assert guarded.get("/stats", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


def test_health_needs_no_token(guarded: Client) -> None:
    assert guarded.get("/healthz").json() == {"status": "ok", "clips": 40, "generation": 1}


def test_a_browser_signs_in_and_is_remembered(guarded: Client) -> None:
    page = guarded.get("/", headers={"accept": "text/html,*/*"})
    assert page.status_code == 401
    assert 'action="/login"' in page.text
    assert guarded.get("/static/app.css").status_code == 200
    problem_of(guarded.get("/static/htmx.min.js"), 401)

    wrong = guarded.post("/login", data={"token": "guess"}, headers={"accept": "text/html"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    problem_of(guarded.post("/login", data={"token": "guess"}), 401)
    problem_of(guarded.post("/login", data={"token": "x" * 5000}), 413)

    signed = guarded.post("/login", data={"token": TOKEN})
    assert (signed.status_code, signed.headers["location"]) == (303, "/")
    cookie = signed.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=43200" in cookie
    assert TOKEN not in cookie
    # The client keeps it.
    assert guarded.get("/stats").status_code == 200
    assert guarded.get("/static/htmx.min.js").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda expiry, mac: f"{int(expiry) + 1}.{mac}",
        lambda expiry, mac: f"{expiry}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        lambda expiry, mac: f"{expiry}.",
        lambda expiry, mac: expiry,
        lambda expiry, mac: f".{mac}",
        lambda expiry, mac: f"9{expiry}.{mac}",
        lambda expiry, mac: f"{expiry}.{mac}.{mac}",
        lambda expiry, mac: "\u0661.x",
        lambda expiry, mac: "",
    ],
)
def test_a_cookie_that_was_changed_is_none(change) -> None:
    tokens = Tokens(TOKEN, 60)
    expiry, _, mac = tokens.cookie().partition(".")

    def remembers(value: str) -> bool:
        return tokens.remembers(Headers(raw=[(b"cookie", f"{COOKIE}={value}".encode())]))

    assert remembers(f"{expiry}.{mac}")
    assert not remembers(change(expiry, mac))


def test_a_cookie_expires_and_is_worth_nothing_under_another_token() -> None:
    now = 1_000_000.0
    tokens = Tokens(TOKEN, 60, lambda: now)
    headers = Headers(raw=[(b"cookie", f"{COOKIE}={tokens.cookie()}".encode())])
    now += 59
    assert tokens.remembers(headers)
    assert not Tokens("another", 60, lambda: now).remembers(headers)
    assert not Tokens(None, 60, lambda: now).remembers(headers)
    now += 1
    assert not tokens.remembers(headers)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "127.0.0.2", "[::1]:8000", "[::1]"])
def test_without_a_token_this_machine_is_answered(client: Client, host: str) -> None:
    assert client.get("/stats", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "10.0.0.1", "[::1", "0.0.0.0:8000"]
)
def test_another_name_of_this_machine_is_refused(client: Client, host: str) -> None:
    """A page that was loaded from a name which points here by now (DNS rebinding)."""
    for route in ("/stats", "/healthz", "/static/app.css"):
        problem_of(client.get(route, headers={"host": host}), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_pages_of_other_sites_cannot_ask(client: Client, guarded: Client, headers: dict[str, str]) -> None:
    question = {"key": client.keys[0]}
    assert "another site" in problem_of(client.post("/search", json=question, headers=headers), 403)
    guarded.post("/login", data={"token": TOKEN})
    problem_of(guarded.post("/search", json=question, headers=headers), 403)
    problem_of(guarded.post("/login", data={"token": TOKEN}, headers=headers), 403)
    # A program that has the token is no page.
    assert guarded.post("/search", json=question, headers=headers | BEARER).status_code == 200


def test_own_pages_and_links_to_them_are_fine(client: Client) -> None:
    own = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    assert client.post("/search", json={"key": client.keys[0]}, headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/stats", headers=link).status_code == 200
    picture = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    problem_of(client.get("/map", headers=picture), 403)


@pytest.mark.parametrize("route", ["/healthz", "/", "/nothing", "/static/app.css", "/static/nothing"])
def test_every_answer_says_how_it_may_be_used(client: Client, route: str) -> None:
    headers = client.get(route).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_other_addresses_need_a_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"):
        check_address(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(RetrievalError, match="a token is needed"):
            check_address(host, None)
        check_address(host, TOKEN)


@pytest.mark.parametrize("token", ["", "   ", " a", "a ", "ä", "a\nb"])
def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(RetrievalError, match="printable ASCII"):
        ServiceSettings(token=token)
