"""What a FHIR service's answer means: its OperationOutcome, the entries that it refused, and whom the Bundle names."""

from collections.abc import Iterator
from typing import Any

NOT_NOW = (408, 409, 425, 429)
"""Statuses of a client's error that pass by themselves (RFC 9110, 6585, 8470; 409: FHIR, version conflicts)."""
WRONG_PLACE = (404, 405)
"""Nothing is said of the Bundle: there is no such service at the address."""


def table(value: Any) -> dict[str, Any]:
    """The JSON object, or an empty one where something else stands."""
    return value if isinstance(value, dict) else {}


def said(answer: dict[str, Any]) -> str:
    """The words of an OperationOutcome (FHIR, OperationOutcome.issue), those of a refused entry included."""
    outcomes = [answer, *(table(table(each).get("response")).get("outcome") for each in _list(answer.get("entry")))]
    told = []
    for issue in (table(each) for one in outcomes for each in _list(table(one).get("issue"))):
        words = issue.get("diagnostics") or table(issue.get("details")).get("text") or issue.get("code") or ""
        told.append(str(words))
    return "; ".join(each for each in told if each)


def refused_entry(answer: dict[str, Any]) -> int | None:
    """
    The status of an entry that was not taken, though the whole was answered with success.

    A transaction is taken whole or not at all; a service that treats it as a batch says so entry by entry.
    """
    for each in _list(answer.get("entry")):
        status = str(table(table(each).get("response")).get("status", "200"))[:3]
        if status.isdigit() and not status.startswith("2"):
            return int(status)
    return None


def identifying(bundle: dict[str, Any]) -> Iterator[str]:
    """What names the patient and the order in a Bundle of ours: every text below `subject` and `basedOn`."""
    for entry in bundle.get("entry", ()):
        for key in ("subject", "basedOn"):
            yield from _texts(entry["resource"].get(key))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
