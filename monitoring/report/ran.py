"""What the report says of the run itself: its log, its labels, its configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.schemas.config.durations import SECOND, format_duration


def about_the_log(summary: Mapping[str, Any]) -> str:
    """Return in words from when to when a log is, until when it is complete, and its labels."""
    first, last = log_span(summary)
    if first is None or last is None:
        return "No record has a valid event time"
    windows = [
        f"{name} within {format_duration(round(label['window_s'] * SECOND))}"
        for name, label in summary["labels"].items()
    ]
    end = summary["end_of_log"]
    until = (
        "taken as complete"
        if end["mode"] == "close"
        else f"labels complete until {shown(end['labels_complete_until'])}"
    )
    log = f"{shown(first)} to {shown(last)} UTC, {until}; {', '.join(windows) or 'no actions'}"
    return log if summary["continues"] is None else f"{log}; continues {summary['continues']}"


def log_span(summary: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the least and the greatest event time of all streams; None without any."""
    spans = summary["spans"].values()
    first = min((of["first"] for of in spans if of["first"] is not None), default=None)
    return first, max((of["last"] for of in spans if of["last"] is not None), default=None)


def shown(moment: str | None) -> str:
    """Write a time to the second; without one say so."""
    return "no time" if moment is None else moment.replace("T", " ")[:19]


def stream_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each stream: its name, first and last event time, complete until."""
    complete = summary["end_of_log"]["complete_until"]
    return [
        [name, shown(span["first"]), shown(span["last"]),
         "declared complete" if complete[name] is None and summary["end_of_log"]["mode"] == "close"
         else shown(complete[name])]
        for name, span in summary["spans"].items()
    ]  # fmt: skip


def configuration_lines(config: Mapping[str, Any]) -> list[str]:
    """Return a configuration line by line, as TOML: a file of these lines has the same meaning."""
    return list(_table(config, ""))


def _table(table: Mapping[str, Any], name: str) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if name and plain:
        yield f"[{name}]"
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table(value, f"{name}.{_key(key)}" if name else _key(key))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _value(name)


def _value(value: Any) -> str:
    """Write a value as TOML has it; its texts are those of JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(of)}" for key, of in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
