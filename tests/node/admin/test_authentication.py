"""Authentication of the admin pages: password, sessions, the delay after failed sign-ins, CSRF tokens."""

import errno
import hashlib
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from node.admin.authentication import CREDENTIALS_FILE, LoginThrottle, Password, Sessions, create_first_password
from tests.samples import busy_ledger
from tests.samples.busy_ledger import HTML, PASSWORD, SampleNode, addresses, client_of, csrf_in, sign_in


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleNode]:
    sample = busy_ledger.busy(busy_ledger.settings_of(tmp_path_factory.mktemp("admin")))
    yield sample
    sample.ledger.close()


@pytest.fixture
def signed_in(sample: SampleNode) -> TestClient:
    client = client_of(sample)
    assert sign_in(client).status_code == 303
    return client


def test_only_probes_and_the_sign_in_page_answer_without_a_session(sample: SampleNode) -> None:
    """Every route but four rejects a browser without a session, images and fragments included."""
    client = client_of(sample)
    answered = {
        path for method, path in addresses(client, sample) if method == "GET" and client.get(path).status_code < 300
    }
    assert answered == {"/healthz", "/readyz", "/metrics", "/sign-in"}
    for method, path in addresses(client, sample):
        if path not in answered:
            assert client.request(method, path).status_code == 401, path
    assert client.get("/nothing-here").status_code == 401


def test_a_page_requested_before_signing_in_follows_the_sign_in(sample: SampleNode) -> None:
    """Signing in redirects to the requested page, if that is a page of the application."""
    client = client_of(sample)
    page = f"/radiographs/{sample.uids['delivered']}"
    redirect = client.get(page, headers=HTML)
    assert redirect.status_code == 303
    assert f'value="{page}"' in client.get(redirect.headers["location"]).text
    assert sign_in(client, next=page).headers["location"] == page
    for elsewhere in (
        "//evil.example/",
        "https://evil.example/",
        "/\\evil.example",
        "/radiographs/../x",
        "javascript:x",
    ):
        assert sign_in(client, next=elsewhere).headers["location"] == "/"


def test_a_wrong_password_starts_no_session(sample: SampleNode) -> None:
    """After a wrong password the browser has no session."""
    client = client_of(sample)
    answer = sign_in(client, "guess")
    assert answer.status_code == 403
    assert "genu_session" not in client.cookies
    assert client.get("/").status_code == 401


def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(sample: SampleNode) -> None:
    """The cookie is HttpOnly and SameSite=Strict, ends with the session, and is Secure over https."""
    for base, secure in (("http://testserver", False), ("https://testserver", True)):
        cookie = next(
            line
            for line in sign_in(client_of(sample, base_url=base)).headers.get_list("set-cookie")
            if line.startswith("genu_session")
        ).lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert f"max-age={8 * 3600}" in cookie
        assert ("; secure" in cookie) is secure


def test_every_post_needs_its_csrf_token(sample: SampleNode, signed_in: TestClient) -> None:
    """No form is accepted without the session's own token, with another session's, or from another site."""
    posts = [path for method, path in addresses(signed_in, sample) if method == "POST"]
    assert len(posts) == 3
    token = csrf_in(signed_in.get("/").text)
    other = client_of(sample)
    sign_in(other)
    for path in posts:
        for given in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ä"}, {"csrf": csrf_in(other.get("/").text)}):
            assert signed_in.post(path, data={"password": PASSWORD, **given}).status_code == 403, path
        foreign = signed_in.post(path, data={"csrf": token}, headers={"sec-fetch-site": "cross-site"})
        assert foreign.status_code == 403
    assert signed_in.get("/").status_code == 200


def test_signing_out_ends_the_session(signed_in: TestClient) -> None:
    """A copy of the cookie is invalid after signing out."""
    cookie = signed_in.cookies["genu_session"]
    out = signed_in.post("/sign-out", data={"csrf": csrf_in(signed_in.get("/").text)})
    assert out.status_code == 303
    signed_in.cookies.set("genu_session", cookie)
    assert signed_in.get("/").status_code == 401


def test_a_session_expires_after_its_hours() -> None:
    """The session is found until its time is over, and never again."""
    now = [0.0]
    sessions = Sessions(hours=1, clock=lambda: now[0])
    token = sessions.create()
    now[0] = 3599.0
    assert sessions.find(token) is not None
    now[0] = 3600.0
    assert sessions.find(token) is None
    assert sessions.find(None) is None
    assert sessions.find("") is None


def test_the_delay_grows_with_failed_sign_ins(sample: SampleNode) -> None:
    """After three wrong passwords an address waits, and the right password does not help until then."""
    client = client_of(sample)
    assert [sign_in(client, "guess").status_code for _ in range(4)] == [403, 403, 403, 429]
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert client.get("/").status_code == 401
    elsewhere = client_of(sample, client=("10.9.9.9", 4711))
    elsewhere.app = client.app
    elsewhere._transport.app = client.app  # type: ignore[attr-defined]
    assert sign_in(elsewhere).status_code == 303


def test_the_delay_grows_to_five_minutes_and_is_reset() -> None:
    """2, 4, 8 ... 300 seconds; the right password, or an hour, ends it; an IPv6 host's whole network shares it."""
    now = [1000.0]
    throttle = LoginThrottle(clock=lambda: now[0])
    delays = []
    for _ in range(14):
        assert throttle.attempt("2001:db8::1") == 0
        delays.append(throttle.attempt("2001:db8::ffff:2"))
        now[0] += delays[-1]
    # In the first round both guesses were free and counted.
    assert delays == [0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
    throttle.attempt("2001:db8::1")
    assert throttle.attempt("2001:db8:0:1::1") == 0
    throttle.reset("2001:db8::9")
    assert throttle.attempt("2001:db8::1") == 0
    for _ in range(20):
        throttle.attempt("10.0.0.1")
    now[0] += 3601
    assert [throttle.attempt("10.0.0.1") for _ in range(3)] == [0, 0, 0]


def test_simultaneous_guesses_are_all_counted(sample: SampleNode) -> None:
    """An attempt counts before it is known to be wrong, so three of ten simultaneous ones are checked."""
    throttle = LoginThrottle()
    start = threading.Barrier(10)
    waits: list[float] = []

    def guess() -> None:
        start.wait()
        waits.append(throttle.attempt("10.0.0.1"))

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wait == 0 for wait in waits) == 3


def test_the_first_password_is_returned_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    """The file is readable by the node's user only, does not contain the password, and matches no other password."""
    chosen = create_first_password(tmp_path)
    assert chosen is not None
    assert create_first_password(tmp_path) is None
    file = tmp_path / CREDENTIALS_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert chosen not in file.read_text()
    content = json.loads(file.read_text())
    assert content["scheme"] == "argon2"
    assert content["hash"].startswith("$argon2id$v=19$m=32768,t=3,p=1$")
    password = Password("", tmp_path)
    assert password.is_set()
    assert password.verify(chosen)
    assert not password.verify(chosen + "x")
    assert not password.verify("")
    assert [path.name for path in tmp_path.iterdir()] == [CREDENTIALS_FILE]


def write_scrypt_file(folder: Path, password: str) -> None:
    """The file that version 0.1 wrote."""
    salt, cost = bytes(range(16)), {"n": 2**15, "r": 8, "p": 1}
    digest = hashlib.scrypt(password.encode(), salt=salt, maxmem=2**26, dklen=32, **cost)
    content = {"scheme": "scrypt", **cost, "salt": salt.hex(), "hash": digest.hex()}
    (folder / CREDENTIALS_FILE).write_text(json.dumps(content))


def test_a_scrypt_file_stays_valid_and_is_replaced_after_signing_in(tmp_path: Path) -> None:
    """A wrong password leaves the file as it is; the correct one replaces it by an Argon2id hash of itself."""
    write_scrypt_file(tmp_path, "first-password")
    file, password = tmp_path / CREDENTIALS_FILE, Password("", tmp_path)
    old = file.read_text()
    assert not password.verify("first-passwore")
    assert file.read_text() == old
    assert password.verify("first-password")
    assert json.loads(file.read_text())["scheme"] == "argon2"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert password.verify("first-password")
    assert not password.verify("first-passwore")
    assert [path.name for path in tmp_path.iterdir()] == [CREDENTIALS_FILE]


def test_a_scrypt_file_that_cannot_be_replaced_stays_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder does not keep anyone from signing in."""

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    write_scrypt_file(tmp_path, "first-password")
    monkeypatch.setattr(Path, "replace", read_only)
    assert Password("", tmp_path).verify("first-password")
    assert Password("", tmp_path).verify("first-password")
    assert [path.name for path in tmp_path.iterdir()] == [CREDENTIALS_FILE]


@pytest.mark.parametrize(
    "change",
    [
        {"hash": ""},
        {"hash": None},
        {"hash": "$argon2id$v=19$m=32768,t=3,p=1$c2FsdHNhbHRzYWx0$"},
        {"hash": "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"},
        {"hash": "\u00e4"},
        {"scheme": "scrypt"},
        {"scheme": "scrypt", "n": 2**40, "r": 8, "p": 1, "salt": "00", "hash": "00"},
        {"scheme": "scrypt", "n": 2**70, "r": 8, "p": 1, "salt": "00", "hash": "00"},
        {"scheme": "plain"},
    ],
)
def test_a_tampered_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A hash that is damaged, costs too much memory or belongs to another scheme signs nobody in."""
    password = create_first_password(tmp_path)
    file = tmp_path / CREDENTIALS_FILE
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **change}))
    assert password is not None
    assert not Password("", tmp_path).verify(password)
    file.write_text(json.dumps({**content, "hash": content["hash"][:-4] + "AAAA"}))
    assert not Password("", tmp_path).verify(password)
    file.write_text("[]")
    assert not Password("", tmp_path).verify(password)


def test_of_simultaneous_starts_one_gets_the_password(tmp_path: Path) -> None:
    """Eight first starts choose one password between them, and it is the one that is stored."""
    start = threading.Barrier(8)
    returned: list[str | None] = []

    def begin() -> None:
        start.wait()
        returned.append(create_first_password(tmp_path))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chosen = [password for password in returned if password]
    assert len(returned) == 8
    assert len(chosen) == 1
    assert Password("", tmp_path).verify(chosen[0])


def test_without_a_password_nobody_can_sign_in(tmp_path: Path) -> None:
    """Neither an empty password nor an unusable file is accepted, and the page shows what to do."""
    sample = busy_ledger.empty(busy_ledger.settings_of(tmp_path, password=""))
    client = client_of(sample)
    assert "genu run" in client.get("/sign-in").text
    assert sign_in(client, "").status_code == 403
    (tmp_path / CREDENTIALS_FILE).write_text('{"scheme": "scrypt"}')
    assert sign_in(client, "").status_code == 403
    sample.ledger.close()


def test_a_password_is_the_same_however_the_keyboard_composes_it(tmp_path: Path) -> None:
    """An accent typed as one character or as two gives the same password."""
    assert Password("Zo\u00eb", tmp_path).verify("Zoe\u0308")
    assert not Password("Zo\u00eb", tmp_path).verify("Zoe")
