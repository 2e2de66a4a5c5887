"""How to read a FHIR service's answer: its OperationOutcome, the failed entries, and what identifies the patient."""

from collections.abc import Iterator
from typing import Any

TRANSIENT_STATUSES = (408, 409, 425, 429)
"""Client error statuses that may pass (RFC 9110, 6585, 8470; 409: FHIR, version conflicts)."""
WRONG_URL_STATUSES = (404, 405)
"""They concern the address, not the Bundle: there is no such service there."""


def json_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def outcome_text(answer: dict[str, Any]) -> str:
    """The text of an OperationOutcome (FHIR, OperationOutcome.issue), including those of failed entries."""
    responses = (json_object(json_object(entry).get("response")) for entry in _json_array(answer.get("entry")))
    outcomes = [answer, *(response.get("outcome") for response in responses)]
    texts = []
    for issue in (json_object(item) for outcome in outcomes for item in _json_array(json_object(outcome).get("issue"))):
        text = issue.get("diagnostics") or json_object(issue.get("details")).get("text") or issue.get("code") or ""
        texts.append(str(text))
    return "; ".join(text for text in texts if text)


def failed_entry_status(answer: dict[str, Any]) -> int | None:
    """
    The status of an entry that failed although the Bundle was answered with success.

    A transaction succeeds or fails as a whole; a service that processes it as a batch has a status for each entry.
    """
    for entry in _json_array(answer.get("entry")):
        status = str(json_object(json_object(entry).get("response")).get("status", "200"))[:3]
        if status.isdigit() and not status.startswith("2"):
            return int(status)
    return None


def identifying_texts(bundle: dict[str, Any]) -> Iterator[str]:
    """What identifies patient and order in a Bundle that Genu made: every text below `subject` and `basedOn`."""
    for entry in bundle.get("entry", ()):
        for key in ("subject", "basedOn"):
            yield from _texts(entry["resource"].get(key))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _json_array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
