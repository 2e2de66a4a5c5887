"""Which radiographs the list shows: what the address asks for, and one page of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from node.admin import view_models
from node.ledger import Ledger, State
from node.reasons import REASONS

PAGE = 50


@dataclass(frozen=True)
class Asked:
    """What to show. Anything else in the address is as if it were not there."""

    state: State | None = None
    reason: str | None = None
    flag: str | None = None
    before: datetime | None = None

    @property
    def filtered(self) -> bool:
        return (self.state or self.reason or self.flag) is not None

    def query(self, before: datetime | None = None) -> str:
        """The query string that asks for the same again, from `before` on; "" for everything."""
        told = {"state": self.state, "reason": self.reason, "flag": self.flag}
        if before is not None:
            told["before"] = before.isoformat()
        found = urlencode({key: value for key, value in told.items() if value})
        return f"?{found}" if found else ""

    @property
    def address(self) -> str:
        """The query string of this very page."""
        return self.query(self.before)


@dataclass(frozen=True)
class Page:
    """One page of the list, newest first."""

    rows: list[view_models.Row]
    older: str | None
    """The query string of the next page; None if there is none."""


def asked_for(told: Mapping[str, str]) -> Asked:
    state = told.get("state", "")
    reason = told.get("reason", "")
    flag = told.get("flag", "")
    return Asked(
        state=State(state) if state in State.__members__ else None,
        reason=reason if reason in REASONS else None,
        flag=flag if flag in view_models.FLAGS else None,
        before=view_models.moment(told.get("before")),
    )


def page(ledger: Ledger, asked: Asked) -> Page:
    found = ledger.listing(state=asked.state, reason=asked.reason, flag=asked.flag, limit=PAGE + 1, before=asked.before)
    shown = found[:PAGE]
    if len(found) > PAGE:
        # Those of one moment stay on one page, for the next one begins at a moment.
        while len(shown) > 1 and shown[-1].received_at == found[PAGE].received_at:
            shown.pop()
    older = asked.query(shown[-1].received_at) if len(found) > PAGE else None
    return Page([view_models.row(entry) for entry in shown], older)
