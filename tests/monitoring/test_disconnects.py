"""The disconnects of a guard, from its journal."""

from datetime import UTC, datetime

from headrace.monitoring.disconnects import Disconnect, disconnects_of
from headrace.monitoring.guard import GUARD_SCHEMA


def at(minute):
    return datetime(2026, 1, 1, 12, minute, tzinfo=UTC)


def row(minute, event, label="click", column=None, value=None):
    """Return a row of the journal; its reason is of its own."""
    alarm = event.removeprefix("lead-") in ("warn", "disconnect")
    sums = (3, 20.0, 14.0) if alarm else (30, 31.0, None)
    reason = f"{label} {value} {event} {minute}"
    return dict(
        zip(GUARD_SCHEMA.names, (at(minute), label, column, value, event, "fewer", *sums, reason),
            strict=True)
    )  # fmt: skip


def test_a_disconnect_ends_with_what_its_own_scope_says_next():
    """With a reconnect or an accept; until then it is still going on, and may ask."""
    journal = [
        row(0, "armed"),
        row(1, "warn"),
        row(2, "disconnect"),
        row(3, "disconnect", "buy"),
        row(4, "disconnect", "click", "os", "ios"),
        row(5, "disconnect", "click", "os", "(null)"),
        row(6, "ask", "buy"),
        row(7, "reconnect"),
        row(8, "ask", "click", "os", "(null)"),
        row(9, "accept", "buy"),
        row(10, "disconnect", "buy"),
        row(11, "calm"),
    ]
    assert disconnects_of(journal) == [
        Disconnect(1, "click", None, None, at(2), at(7), False, 3, 20.0, "click None disconnect 2"),
        Disconnect(2, "buy", None, None, at(3), at(9), False, 3, 20.0, "buy None disconnect 3"),
        Disconnect(3, "click", "os", "ios", at(4), None, False, 3, 20.0, "click ios disconnect 4"),
        Disconnect(
            4, "click", "os", "(null)", at(5), None, True, 3, 20.0, "click (null) disconnect 5"
        ),
        Disconnect(5, "buy", None, None, at(10), None, False, 3, 20.0, "buy None disconnect 10"),
    ]


def test_arrivals_have_disconnects_of_their_own():
    """Beside those of the label, with which neither begins nor ends."""
    journal = [
        row(0, "lead-armed"),
        row(1, "lead-disconnect"),
        row(2, "disconnect"),
        row(3, "lead-ask"),
        row(4, "reconnect"),
        row(5, "lead-reconnect"),
        row(6, "lead-disconnect"),
        row(7, "lead-accept"),
        row(8, "lead-disconnect"),
        row(9, "lead-ask"),
    ]
    found = disconnects_of(journal)
    assert [(of.begin, of.end, of.asks, of.arrivals) for of in found] == [
        (at(1), at(5), False, True),
        (at(2), at(4), False, False),
        (at(6), at(7), False, True),
        (at(8), None, True, True),
    ]


def test_without_a_disconnect_there_is_none():
    """Also if the days are gone in which it began."""
    assert disconnects_of([]) == []
    assert disconnects_of([row(0, "armed"), row(1, "reconnect"), row(2, "ask")]) == []
