"""Who may look: one password, sessions that end, and a pause that grows with every wrong guess."""

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import structlog

log = structlog.get_logger()

FILE = "admin.json"
"""The sign-in file in the storage folder: a scrypt hash, never the password. Delete it to have a new one chosen."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else (0 o, 1 l i)
_COST = {"n": 2**15, "r": 8, "p": 1}  # 32 MiB and some 80 ms for each guess (RFC 7914 section 2)
_MEMORY = 64 * 2**20


def first_password(folder: Path) -> str | None:
    """
    A new password, returned this once and stored as a scrypt hash; None if the folder already has one.

    When several parts start at once only one of them gets a password: the file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / FILE
    if target.exists():
        return None
    password = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    salt = secrets.token_bytes(16)
    told = {"scheme": "scrypt", **_COST, "salt": salt.hex(), "hash": _scrypt(password, salt, _COST).hex()}
    temporary = folder / f".{FILE}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, target)
    except FileExistsError:
        return None
    finally:
        temporary.unlink()
    return password


class Password:
    """The password of the settings, or the one whose hash lies in the storage folder."""

    def __init__(self, from_settings: str, folder: Path) -> None:
        self._digest = hashlib.sha256(_normal(from_settings)).digest() if from_settings else None
        self._file = folder / FILE

    def is_set(self) -> bool:
        return self._digest is not None or self._file.is_file()

    def fits(self, guess: str) -> bool:
        """Whether `guess` is the password, in a time that says nothing of how nearly."""
        if self._digest is not None:
            return hmac.compare_digest(hashlib.sha256(_normal(guess)).digest(), self._digest)
        try:
            told = json.loads(self._file.read_text(encoding="ascii"))
            cost = {key: int(told[key]) for key in _COST}
            found = _scrypt(guess, bytes.fromhex(told["salt"]), cost)
            return hmac.compare_digest(found, bytes.fromhex(told["hash"]))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("sign_in_file_unusable", error=type(error).__name__)
            return False


def _normal(text: str) -> bytes:
    """The same bytes for the same password, however a keyboard composes its accents (RFC 8265 section 4.2)."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def _scrypt(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return hashlib.scrypt(_normal(password), salt=salt, maxmem=_MEMORY, dklen=32, **cost)


@dataclass(frozen=True)
class Session:
    """A signed-in browser. `csrf` must come back with every form that it sends."""

    csrf: str
    ends_at: float


class Sessions:
    """The browsers that are signed in. Only hashes of their tokens are kept, in memory: a restart signs all out."""

    def __init__(self, hours: float, clock: Callable[[], float] = time.monotonic, most: int = 256) -> None:
        self._seconds, self._clock, self._most = hours * 3600, clock, most
        self._key = secrets.token_bytes(32)
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> str:
        """The token of a new session, for a cookie."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._open[_hashed(token)] = Session(self.csrf(token), self._clock() + self._seconds)
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        if not token:
            return None
        with self._lock:
            session = self._open.get(_hashed(token))
            if session is not None and session.ends_at <= self._clock():
                del self._open[_hashed(token)]
                return None
            return session

    def end(self, token: str | None) -> None:
        with self._lock:
            self._open.pop(_hashed(token or ""), None)

    def csrf(self, token: str) -> str:
        """What a form must carry when it comes with the cookie `token`; another site cannot work it out."""
        return hmac.new(self._key, token.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Brake:
    """Makes a client address that guesses wait: 3 tries are free, then 2, 4, 8 ... 300 seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 4096) -> None:
        self._clock, self._most = clock, most
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def attempt(self, address: str) -> float:
        """
        Count a try of `address` as failed, before it is known; `forgive` takes it back.

        Returns the seconds still to wait, and counts nothing, if the address may not try yet. Counting first
        means that many guesses sent at once do not all slip through before the first is known to be wrong.
        """
        key = _network(address)
        with self._lock:
            now = self._clock()
            count, last = self._failures.pop(key, (0, now))
            if now - last > 3600:
                count = 0
            wait = last + _pause_after(count) - now if count else 0.0
            self._failures[key] = (count, last) if wait > 0 else (count + 1, now)
            while len(self._failures) > self._most:
                self._failures.popitem(last=False)
            return max(0.0, wait)

    def forgive(self, address: str) -> None:
        with self._lock:
            self._failures.pop(_network(address), None)


def _pause_after(failures: int) -> float:
    return 0.0 if failures < 3 else min(300.0, 2.0 ** min(failures - 2, 10))


def _network(address: str) -> str:
    """The address that is held to account; of IPv6 the /64, for one host has all of it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
