"""Who may look at the admin pages: the password, the session, the pause after guesses, the forms."""

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from node.admin.authentication import FILE, Brake, Password, Sessions, first_password
from tests.samples import busy_ledger as house
from tests.samples.busy_ledger import HTML, PASSWORD, Ward, addresses, client_of, csrf_in, sign_in


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    ward = house.busy(house.settings_of(tmp_path_factory.mktemp("admin")))
    yield ward
    ward.ledger.close()


@pytest.fixture
def signed_in(ward: Ward) -> TestClient:
    client = client_of(ward)
    assert sign_in(client).status_code == 303
    return client


def test_only_probes_and_the_sign_in_page_answer_without_a_session(ward: Ward) -> None:
    """Every route but four turns an unknown browser away, pictures and fragments included."""
    client = client_of(ward)
    answered = {
        path for method, path in addresses(client, ward) if method == "GET" and client.get(path).status_code < 300
    }
    assert answered == {"/healthz", "/readyz", "/metrics", "/sign-in"}
    for method, path in addresses(client, ward):
        if path not in answered:
            assert client.request(method, path).status_code == 401, path
    assert client.get("/nothing-here").status_code == 401


def test_a_page_asked_for_too_early_comes_after_signing_in(ward: Ward) -> None:
    """The sign-in page leads on to what was asked for, if that is a page of ours."""
    client = client_of(ward)
    page = f"/radiographs/{ward.uids['delivered']}"
    turned = client.get(page, headers=HTML)
    assert turned.status_code == 303
    assert f'value="{page}"' in client.get(turned.headers["location"]).text
    assert sign_in(client, next=page).headers["location"] == page
    for elsewhere in (
        "//evil.example/",
        "https://evil.example/",
        "/\\evil.example",
        "/radiographs/../x",
        "javascript:x",
    ):
        assert sign_in(client, next=elsewhere).headers["location"] == "/"


def test_a_wrong_password_opens_nothing(ward: Ward) -> None:
    """After a wrong password the browser has no session."""
    client = client_of(ward)
    answer = sign_in(client, "guess")
    assert answer.status_code == 403
    assert "genu_session" not in client.cookies
    assert client.get("/").status_code == 401


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(ward: Ward) -> None:
    """The cookie is HttpOnly and SameSite=Strict, ends with the session, and is Secure over https."""
    for base, secure in (("http://testserver", False), ("https://testserver", True)):
        cookie = next(
            line
            for line in sign_in(client_of(ward, base_url=base)).headers.get_list("set-cookie")
            if line.startswith("genu_session")
        ).lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert f"max-age={8 * 3600}" in cookie
        assert ("; secure" in cookie) is secure


def test_every_post_needs_its_token(ward: Ward, signed_in: TestClient) -> None:
    """No form is taken without the session's own token, nor with another's, nor from another site."""
    posts = [path for method, path in addresses(signed_in, ward) if method == "POST"]
    assert len(posts) == 3
    token = csrf_in(signed_in.get("/").text)
    other = client_of(ward)
    sign_in(other)
    for path in posts:
        for given in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ä"}, {"csrf": csrf_in(other.get("/").text)}):
            assert signed_in.post(path, data={"password": PASSWORD, **given}).status_code == 403, path
        foreign = signed_in.post(path, data={"csrf": token}, headers={"sec-fetch-site": "cross-site"})
        assert foreign.status_code == 403
    assert signed_in.get("/").status_code == 200


def test_signing_out_ends_the_session_itself(signed_in: TestClient) -> None:
    """A copy of the cookie is worth nothing after signing out."""
    cookie = signed_in.cookies["genu_session"]
    out = signed_in.post("/sign-out", data={"csrf": csrf_in(signed_in.get("/").text)})
    assert out.status_code == 303
    signed_in.cookies.set("genu_session", cookie)
    assert signed_in.get("/").status_code == 401


def test_a_session_ends_after_its_hours() -> None:
    """The session is found until its time is over, and never again."""
    now = [0.0]
    sessions = Sessions(hours=1, clock=lambda: now[0])
    token = sessions.begin()
    now[0] = 3599.0
    assert sessions.find(token) is not None
    now[0] = 3600.0
    assert sessions.find(token) is None
    assert sessions.find(None) is None
    assert sessions.find("") is None


def test_guessing_takes_longer_and_longer(ward: Ward) -> None:
    """After three wrong passwords an address waits, and the right password does not help until then."""
    client = client_of(ward)
    assert [sign_in(client, "guess").status_code for _ in range(4)] == [403, 403, 403, 429]
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert client.get("/").status_code == 401
    elsewhere = client_of(ward, client=("10.9.9.9", 4711))
    elsewhere.app = client.app
    elsewhere._transport.app = client.app  # type: ignore[attr-defined]
    assert sign_in(elsewhere).status_code == 303


def test_the_pause_grows_to_five_minutes_and_is_forgotten() -> None:
    """2, 4, 8 ... 300 seconds; the right password, or an hour, ends it; an IPv6 host's whole network shares it."""
    now = [1000.0]
    brake = Brake(clock=lambda: now[0])
    pauses = []
    for _ in range(14):
        assert brake.attempt("2001:db8::1") == 0
        pauses.append(brake.attempt("2001:db8::ffff:2"))
        now[0] += pauses[-1]
    # In the first round both guesses were free and counted.
    assert pauses == [0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
    brake.attempt("2001:db8::1")
    assert brake.attempt("2001:db8:0:1::1") == 0
    brake.forgive("2001:db8::9")
    assert brake.attempt("2001:db8::1") == 0
    for _ in range(20):
        brake.attempt("10.0.0.1")
    now[0] += 3601
    assert [brake.attempt("10.0.0.1") for _ in range(3)] == [0, 0, 0]


def test_many_guesses_at_once_do_not_slip_through(ward: Ward) -> None:
    """A try counts before it is known to be wrong, so three of ten simultaneous ones are weighed."""
    brake = Brake()
    start = threading.Barrier(10)
    waits: list[float] = []

    def guess() -> None:
        start.wait()
        waits.append(brake.attempt("10.0.0.1"))

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wait == 0 for wait in waits) == 3


def test_the_first_password_is_said_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    """The file can be read by the node's user only, does not hold the password, and fits no other."""
    chosen = first_password(tmp_path)
    assert chosen is not None
    assert first_password(tmp_path) is None
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert chosen not in file.read_text()
    assert json.loads(file.read_text())["scheme"] == "scrypt"
    password = Password("", tmp_path)
    assert password.is_set()
    assert password.fits(chosen)
    assert not password.fits(chosen + "x")
    assert not password.fits("")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_of_starters_at_the_same_time_one_gets_the_password(tmp_path: Path) -> None:
    """Eight first starts choose one password between them, and it is the one that is stored."""
    start = threading.Barrier(8)
    told: list[str | None] = []

    def begin() -> None:
        start.wait()
        told.append(first_password(tmp_path))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chosen = [password for password in told if password]
    assert len(told) == 8
    assert len(chosen) == 1
    assert Password("", tmp_path).fits(chosen[0])


def test_without_a_password_nobody_comes_in(tmp_path: Path) -> None:
    """Neither an empty password nor an unusable file opens the page, and the page says what to do."""
    ward = house.empty(house.settings_of(tmp_path, password=""))
    client = client_of(ward)
    assert "genu run" in client.get("/sign-in").text
    assert sign_in(client, "").status_code == 403
    (tmp_path / FILE).write_text('{"scheme": "scrypt"}')
    assert sign_in(client, "").status_code == 403
    ward.ledger.close()


def test_a_password_is_the_same_however_the_keyboard_composes_it(tmp_path: Path) -> None:
    """An accent typed as one sign or as two opens the same door."""
    assert Password("Zo\u00eb", tmp_path).fits("Zoe\u0308")
    assert not Password("Zo\u00eb", tmp_path).fits("Zoe")
