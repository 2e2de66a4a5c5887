"""The list of radiographs: the filter in the query string, and one page of the radiographs that match it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from node.admin import view_models
from node.ledger import Ledger, State
from node.reasons import REASONS

PAGE_SIZE = 50


@dataclass(frozen=True)
class ListFilter:
    """Which radiographs to list. Unknown parameters and values are ignored."""

    state: State | None = None
    reason: str | None = None
    flag: str | None = None
    before: datetime | None = None

    @property
    def is_set(self) -> bool:
        return (self.state or self.reason or self.flag) is not None

    def query(self, before: datetime | None = None) -> str:
        """The query string of the same filter, from `before` on; "" for everything."""
        parameters = {"state": self.state, "reason": self.reason, "flag": self.flag}
        if before is not None:
            parameters["before"] = before.isoformat()
        encoded = urlencode({key: value for key, value in parameters.items() if value})
        return f"?{encoded}" if encoded else ""

    @property
    def own_query(self) -> str:
        """The query string of this very page."""
        return self.query(self.before)


@dataclass(frozen=True)
class ListPage:
    """One page of the list, newest first."""

    rows: list[view_models.RadiographRow]
    older: str | None
    """The query string of the next page; None if there is none."""


def parse_filter(parameters: Mapping[str, str]) -> ListFilter:
    """The filter in the parameters of a query string."""
    state = parameters.get("state", "")
    reason = parameters.get("reason", "")
    flag = parameters.get("flag", "")
    return ListFilter(
        state=State(state) if state in State.__members__ else None,
        reason=reason if reason in REASONS else None,
        flag=flag if flag in view_models.FLAG_MEANINGS else None,
        before=view_models.parse_time(parameters.get("before")),
    )


def list_page(ledger: Ledger, chosen: ListFilter) -> ListPage:
    """The newest radiographs that match the filter, about PAGE_SIZE of them."""
    found = ledger.listing(
        state=chosen.state, reason=chosen.reason, flag=chosen.flag, limit=PAGE_SIZE + 1, before=chosen.before
    )
    shown = found[:PAGE_SIZE]
    if len(found) > PAGE_SIZE:
        # Radiographs received at the same moment stay on one page, because the next page begins at a moment.
        while len(shown) > 1 and shown[-1].received_at == found[PAGE_SIZE].received_at:
            shown.pop()
    older = chosen.query(shown[-1].received_at) if len(found) > PAGE_SIZE else None
    return ListPage([view_models.radiograph_row(entry) for entry in shown], older)
