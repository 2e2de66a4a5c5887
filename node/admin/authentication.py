"""Authentication for the admin pages: one password, sessions that expire, and a delay after failed sign-ins."""

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import structlog
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, VerifyMismatchError

log = structlog.get_logger()

CREDENTIALS_FILE = "admin.json"
"""The password file in the storage folder: an Argon2id hash, never the password. Delete it to have a new one chosen."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no characters that are easily confused (0 o, 1 l i)
_MEMORY_KIB = 32 * 1024
_HASHER = PasswordHasher(time_cost=3, memory_cost=_MEMORY_KIB, parallelism=1)  # one core and 32 MiB for each guess
_MAX_MEMORY_KIB = 2 * _MEMORY_KIB
"""A hash that asks for more memory is refused."""
_SCRYPT_COST = ("n", "r", "p")


def create_first_password(folder: Path) -> str | None:
    """
    A new password, returned this once and stored as an Argon2id hash; None if the folder already has one.

    When several processes start at once only one of them gets a password: the file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / CREDENTIALS_FILE
    if target.exists():
        return None
    password = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    temporary = _write_hash(folder, password)
    try:
        os.link(temporary, target)
    except FileExistsError:
        return None
    finally:
        temporary.unlink()
    return password


def _write_hash(folder: Path, password: str) -> Path:
    """Write the hash of the password to a new temporary file, readable by the node's user only, and fsync it."""
    content = {"scheme": "argon2", "hash": _HASHER.hash(_normalised(password))}
    temporary = folder / f".{CREDENTIALS_FILE}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return temporary


class Password:
    """The password of the settings, or the one whose hash is in the storage folder."""

    def __init__(self, from_settings: str, folder: Path) -> None:
        self._digest = hashlib.sha256(_normalised(from_settings)).digest() if from_settings else None
        self._file = folder / CREDENTIALS_FILE

    def is_set(self) -> bool:
        return self._digest is not None or self._file.is_file()

    def verify(self, guess: str) -> bool:
        """
        Whether `guess` is the password. The comparison takes the same time wherever the guess differs.

        A correct guess replaces a scrypt hash, which version 0.1 wrote, by an Argon2id hash.
        """
        if self._digest is not None:
            return hmac.compare_digest(hashlib.sha256(_normalised(guess)).digest(), self._digest)
        try:
            content = json.loads(self._file.read_text(encoding="ascii"))
            if content["scheme"] == "argon2":
                return _matches_argon2(guess, str(content["hash"]))
            matches = _matches_scrypt(guess, content)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, OverflowError, Argon2Error) as error:
            log.error("password_file_unusable", error=type(error).__name__)
            return False
        if matches:
            self._rehash(guess)
        return matches

    def _rehash(self, password: str) -> None:
        """Replace the file by one with an Argon2id hash of the password; if that fails, the old file stays valid."""
        try:
            temporary = _write_hash(self._file.parent, password)
            try:
                temporary.replace(self._file)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            log.warning("password_not_rehashed", error=type(error).__name__)


def _matches_argon2(guess: str, encoded: str) -> bool:
    """Raises Argon2Error or ValueError if `encoded` is no usable Argon2 hash."""
    if extract_parameters(encoded).memory_cost > _MAX_MEMORY_KIB:
        raise ValueError("the hash asks for too much memory")
    try:
        return _HASHER.verify(encoded, _normalised(guess))
    except VerifyMismatchError:
        return False


def _matches_scrypt(guess: str, content: Mapping[str, Any]) -> bool:
    """Raises KeyError, TypeError or ValueError if `content` is no usable scrypt hash (RFC 7914)."""
    n, r, p = (int(content[key]) for key in _SCRYPT_COST)
    salt, expected = bytes.fromhex(content["salt"]), bytes.fromhex(content["hash"])
    maxmem = _MAX_MEMORY_KIB * 1024
    digest = hashlib.scrypt(_normalised(guess), salt=salt, n=n, r=r, p=p, maxmem=maxmem, dklen=32)
    return hmac.compare_digest(digest, expected)


def _normalised(text: str) -> bytes:
    """The same bytes for the same password, however a keyboard composes its accents (RFC 8265 section 4.2)."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Session:
    """A browser that is signed in. Every form that it sends must contain `csrf`."""

    csrf: str
    expires_at: float


class Sessions:
    """The browsers that are signed in. Only hashes of their tokens are held, in memory: a restart signs all out."""

    def __init__(self, hours: float, clock: Callable[[], float] = time.monotonic, max_sessions: int = 256) -> None:
        self._seconds, self._clock, self._max_sessions = hours * 3600, clock, max_sessions
        self._key = secrets.token_bytes(32)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def create(self) -> str:
        """The token of a new session, for a cookie. The oldest session ends if there are more than `max_sessions`."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_token_hash(token)] = Session(self.csrf_token(token), self._clock() + self._seconds)
            while len(self._sessions) > self._max_sessions:
                self._sessions.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        if not token:
            return None
        with self._lock:
            session = self._sessions.get(_token_hash(token))
            if session is not None and session.expires_at <= self._clock():
                del self._sessions[_token_hash(token)]
                return None
            return session

    def end(self, token: str | None) -> None:
        with self._lock:
            self._sessions.pop(_token_hash(token or ""), None)

    def csrf_token(self, token: str) -> str:
        """The CSRF token of a form that is sent with the cookie `token`; another site cannot compute it."""
        return hmac.new(self._key, token.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class LoginThrottle:
    """Delays the sign-ins of a client address: 3 attempts are free, then it waits 2, 4, 8 ... 300 seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_addresses: int = 4096) -> None:
        self._clock, self._max_addresses = clock, max_addresses
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def attempt(self, address: str) -> float:
        """
        Count an attempt of `address` as failed, before its password is checked; `reset` takes it back.

        Returns the seconds still to wait, and counts nothing, if the address may not try yet. Counting first
        means that many guesses sent at once do not all slip through before the first is known to be wrong.
        """
        key = _throttled_network(address)
        with self._lock:
            now = self._clock()
            count, last = self._failures.pop(key, (0, now))
            if now - last > 3600:
                count = 0
            wait = last + _delay_after(count) - now if count else 0.0
            self._failures[key] = (count, last) if wait > 0 else (count + 1, now)
            while len(self._failures) > self._max_addresses:
                self._failures.popitem(last=False)
            return max(0.0, wait)

    def reset(self, address: str) -> None:
        """Clear the failures of `address`: it signed in."""
        with self._lock:
            self._failures.pop(_throttled_network(address), None)


def _delay_after(failures: int) -> float:
    return 0.0 if failures < 3 else min(300.0, 2.0 ** min(failures - 2, 10))


def _throttled_network(address: str) -> str:
    """The address that failures are counted for; of IPv6 the /64, because one host has all of it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
