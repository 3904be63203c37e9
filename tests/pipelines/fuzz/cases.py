"""Random cases: the streams of a log with their files, and a configuration that fits them."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
from hypothesis import strategies as st

from tests.pipelines.fuzz.values import BREAKS, KINDS, NAMES, NOTATIONS, TEXTS, UTC, Kind

STARTS = tuple(
    int(dt.datetime.fromisoformat(text).timestamp()) * 1_000_000
    for text in ("2026-01-01T00:00Z", "1999-12-31T23:30Z", "2099-12-31T20:00Z", "1971-01-01T00:00Z")
)
TEXT = pa.string()
HOUR = 3_600 * 1_000_000
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
ARROW_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}


@dataclass
class Cell:
    """A value: how it is written, and what it is read as.

    Parameters
    ----------
    raw
        A text of CSV, JSON as written (None: there is no such member), a value of Parquet.
    value
        What it is read as, None for a null.
    text
        The text that it is in its file, None if it is none.
    bad
        Whether it does not fit its column.
    """

    raw: Any
    value: Any = None
    text: str | None = None
    bad: bool = False


@dataclass
class Column:
    """A column of a stream; a nested one is a path into objects."""

    name: str
    kind: Kind
    declared: bool
    stored: pa.DataType | None = None
    nested: bool = False
    roles: tuple[str, ...] = ()


@dataclass
class Row:
    """A record; a damaged one is a line that cannot be decoded."""

    cells: dict[str, Cell]
    time_us: int = 0
    damage: str = ""
    reasons: frozenset[str] = frozenset()


@dataclass
class File:
    """A file, and those columns that it has, in their order; None for a file of no bytes."""

    columns: list[str] | None
    rows: list[Row]


@dataclass
class Stream:
    """A stream, its files, and its table of the configuration without ``path``."""

    name: str
    form: str
    packed: str
    columns: dict[str, Column]
    key: list[str]
    time: str
    options: dict[str, Any]
    files: list[File] = field(default_factory=list)
    style: dict[str, Any] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return f".{self.form}{self.packed}"

    def pattern(self) -> str:
        return f"{self.name}-*{self.suffix}"


@dataclass
class Case:
    """Streams, impressions first, and the tables of the configuration that are not theirs."""

    streams: list[Stream]
    tables: dict[str, Any]
    keep: str | None = None
    rates: tuple[str, dict[str, float]] | None = None


@dataclass(frozen=True)
class Notation:
    """How event times are written; `spell` takes microseconds."""

    options: dict[str, Any]
    step: int
    spell: Callable[[int], Any]
    stored: pa.DataType = TEXT
    numeric: bool = False


def _moment(time_us: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=UTC) + dt.timedelta(microseconds=time_us)


def _numbers(unit: str, stored: pa.DataType) -> Notation:
    def spell(time_us: int) -> int:
        return time_us * 1_000 if unit == "ns" else time_us // UNITS[unit]

    return Notation({"unit": unit}, UNITS[unit], spell, stored, numeric=True)


def _written(form: str, options: dict[str, Any], step: int, zone: str = "UTC") -> Notation:
    def spell(time_us: int) -> str:
        return _moment(time_us).astimezone(ZoneInfo(zone)).strftime(form)

    return Notation(options, step, spell)


def _stamps(unit: str, zone: str | None, said: str | None) -> Notation:
    def spell(time_us: int) -> dt.datetime:
        moment = _moment(time_us)
        return moment if zone else moment.astimezone(ZoneInfo(said or "UTC")).replace(tzinfo=None)

    options = {"zone": said} if said else {}
    return Notation(options, ARROW_UNITS[unit], spell, pa.timestamp(unit, zone))


def notation(one: Callable[[Any], Any], form: str) -> Notation:
    """Draw a notation of event times."""
    way = one(("unit", "iso", "format", *(("stamp", "stamp") if form == "parquet" else ())))
    if way == "unit":
        unit = one(tuple(UNITS))
        stored = (pa.int64(), pa.uint64(), *((pa.uint32(),) if unit == "s" else ()))
        return _numbers(unit, one(stored))
    zone = one((None, *ZONES))
    said = {"zone": zone} if zone else {}
    if way == "stamp":
        return _stamps(one(tuple(ARROW_UNITS)), one((None, None, "UTC", "Europe/Berlin")), zone)
    if way == "iso":
        options = {"format": "iso8601", **said}
        seconds, step = one((("%S", 1_000_000), ("%S.%f", 1)))
        offset, of = one((("", zone or "UTC"), ("Z", "UTC"), ("%:z", "Asia/Kolkata")))
        mark = one(("T", " "))
        written = _written(f"%Y-%m-%d{mark}%H:%M:{seconds}", options, step, of)
        if offset == "%:z":
            return Notation(options, step, lambda us: written.spell(us) + "+05:30")
        return Notation(options, step, lambda us: written.spell(us) + offset)
    pattern, step = one((("%Y-%m-%d %H:%M:%S", 1_000_000), ("%d/%m/%Y %H:%M:%S.%f", 1),
                         ("%Y%m%d%H%M%S", 1_000_000), ("%H:%M:%S,%f on %d %b %Y", 1)))  # fmt: skip
    if one((False, True)):
        of = one(ZONES)
        return _written(pattern + " %z", {"format": pattern + " %z", **said}, step, of)
    return _written(pattern, {"format": pattern, **said}, step, zone or "UTC")


@functools.cache
def storable(kind: Kind, stored: pa.DataType) -> tuple[Any, ...]:
    """Return those values of a kind that a type of Parquet can hold."""
    held = []
    for value in kind.values:
        try:
            pa.array([value], stored.value_type if pa.types.is_dictionary(stored) else stored)
        except (pa.ArrowInvalid, OverflowError):
            continue
        held.append(value)
    return tuple(held)


def writable(stream: Stream, text: str) -> bool:
    """Whether a stream's files can hold a text."""
    if stream.form != "csv":
        return True
    if any(mark in text for mark in "\r\n"):
        return False
    return (
        stream.options.get("quote", '"') != "" or stream.options.get("delimiter", ",") not in text
    )


def as_text(value: Any) -> str | None:
    """Return the text that a value is in its file, None if it is none."""
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    return value if isinstance(value, str) else None


class Drawing:
    """Draws the parts of a case."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def one(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def chance(self, parts: int) -> bool:
        """Draw true once in so many times."""
        return self.draw(st.integers(0, parts - 1)) == parts - 1

    def count(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def null(self, stream: Stream) -> Cell:
        return Cell({"csv": "", "jsonl": self.one(("null", None)), "parquet": None}[stream.form])

    def written(self, stream: Stream, column: Column, text: str, value: Any, bad: bool) -> Cell:
        """Return a cell that is a text."""
        raw = text if stream.form != "jsonl" else json.dumps(text, ensure_ascii=self.chance(2))
        return Cell(raw, value, text, bad)

    def cell(self, stream: Stream, column: Column) -> Cell:
        """Draw a value of a column: one that fits, a null, or one that does not fit."""
        kind, way = column.kind, self.count(0, 9)
        styled = NOTATIONS.get(stream.style.get("notation", ()))
        texts, bad_texts = kind.texts, kind.bad_texts
        if styled is not None and kind.name == "float64":
            texts, bad_texts = styled
        if way == 9:
            return self.null(stream)
        textual = stream.form == "csv" or (column.stored is not None and (
            pa.types.is_string(column.stored) and kind.name != "string"))  # fmt: skip
        if textual:
            if way == 8 and bad_texts:
                text, value, bad = self.one(bad_texts), None, True
            else:
                (text, value), bad = self.one(texts), False
            return self.written(stream, column, text, value, bad) if writable(stream, text) \
                else self.null(stream)  # fmt: skip
        if stream.form == "parquet":
            value = self.one(storable(kind, column.stored))
            return Cell(value, value, as_text(value))
        if way == 8 and kind.bad_json and (column.declared or kind.json):
            wrong = kind.bad_json
            raw, value, bad = self.one(wrong), None, True
        else:
            pool = kind.json
            if column.declared:
                pool += kind.declared_json if styled is None or kind.name != "float64" else ()
                if kind.name == "float64" and styled is not None:
                    pool += tuple((json.dumps(text), value) for text, value in styled[0])
            (raw, value), bad = self.one(pool), False
        text = json.loads(raw) if raw.startswith('"') and kind.name != "json" else None
        return Cell(raw, value, text, bad)

    def stream(self, name: str, families: list[str], most_columns: int) -> Stream:
        """Draw a stream without rows."""
        form = self.one(("csv", "jsonl", "parquet"))
        packed = "" if form == "parquet" else self.one(("", "", ".gz", ".zst"))
        names = list(self.draw(st.permutations(NAMES))[: most_columns + len(families) + 1])
        stream = Stream(name, form, packed, {}, [], "", {})
        self._dialect(stream)
        for at, text in enumerate(names):
            # Blanks around the names in a header line do not count.
            spared = not writable(stream, text) or (form == "csv" and text != text.strip())
            if spared:
                names[at] = f"n{at}"
        if form != "csv" and self.chance(3):
            names[0] = "event.id"
            names[-1] = "event.deep.x"
        nested = lambda text: text.startswith("event.")  # noqa: E731
        stream.key, stream.time = names[: len(families)], names[len(families)]
        for text, family in zip(stream.key, families, strict=True):
            stream.columns[text] = self._key(stream, text, family)
            stream.columns[text].nested = nested(text)
        when = notation(self.one, form)
        if form == "csv" and not writable(stream, str(when.spell(0))):
            when = _numbers("us", pa.int64())
        stream.style["time"] = when
        stored = when.stored if form == "parquet" else None
        kind = KINDS["int64" if when.numeric else "string"]
        declared = form == "jsonl" and when.numeric and self.chance(3)
        stream.columns[stream.time] = Column(stream.time, kind, declared, stored)
        for text in names[len(families) + 1 :]:
            stream.columns[text] = self._column(stream, text)
            stream.columns[text].nested = nested(text)
        stream.options |= {
            "key": stream.key, "time": {"column": stream.time, **when.options},
        }  # fmt: skip
        if self.chance(5):
            stream.options["bad_values"] = self.one(("null", "reject"))
        types = {c.name: c.kind.name for c in stream.columns.values() if c.declared}
        if types:
            stream.options["types"] = types
        return stream

    def _dialect(self, stream: Stream) -> None:
        style = stream.style
        style["ascii"], style["blanks"] = self.chance(2), self.chance(2)
        style["newline"] = self.one(("\n", "\n", "\r\n"))
        style["last"], style["bom"] = self.chance(2), self.chance(4)
        style["quoted"], style["parts"] = self.chance(3), self.count(1, 2)
        if stream.form == "csv":
            if self.chance(3):
                stream.options["delimiter"] = self.one((",", ";", "\t", "|"))
            if self.chance(3):
                stream.options["quote"] = self.one(('"', "'", ""))
        if self.chance(6):
            stream.options["null_values"] = self.one((["-"], ["a", "b"], ["NA", "-", "0"]))
        if self.chance(4):
            decimal, thousands = style["notation"] = self.one(tuple(NOTATIONS))
            stream.options |= {"decimal": decimal, "thousands": thousands}

    def _key(self, stream: Stream, name: str, family: str) -> Column:
        if family == "text":
            # In JSON bytes are base64, which the other streams' keys are not.
            kind = KINDS[self.one(("string", "string" if stream.form == "jsonl" else "bytes"))]
        else:
            kind = KINDS[family]
        stored = self.one(kind.stored[-2:]) if stream.form == "parquet" else None
        if family == "int64" and stored is not None:
            stored = self.one((pa.int64(), pa.decimal128(20, 0), *kind.stored[-1:]))
        free = stream.form == "parquet" or kind.name == "string" or (
            stream.form == "jsonl" and kind.name == "int64")  # fmt: skip
        return Column(name, kind, not free or (stream.form != "parquet" and self.chance(3)), stored)

    def _column(self, stream: Stream, name: str) -> Column:
        kinds = dict(KINDS)
        if stream.form != "jsonl":
            del kinds["json"]
        if "notation" in stream.style:
            del kinds["decimal(12, 2)"]
        if stream.form == "jsonl":
            del kinds["bytes"]
        kind = self.one(tuple(kinds.values()))
        if stream.form == "parquet":
            as_text = kind.name != "string" and kind.texts and self.chance(3)
            return Column(
                name, kind, bool(as_text), pa.string() if as_text else self.one(kind.stored)
            )
        if stream.form == "csv":
            return Column(name, kind, kind.name != "string" or self.chance(3))
        free = bool(kind.json) and kind.name != "uint64"
        return Column(name, kind, not free or self.chance(3))

    def row(self, stream: Stream, key: tuple[Any, ...], time_us: int) -> Row:
        """Draw a record of a key and event time."""
        cells = {}
        for name, part in zip(stream.key, key, strict=True):
            cells[name] = self._key_cell(stream, stream.columns[name], part)
        when: Notation = stream.style["time"]
        time_us -= time_us % when.step
        cells[stream.time] = self._time_cell(stream, when, time_us)
        for name in stream.columns.keys() - cells.keys():
            cells[name] = Cell(None)  # drawn below, in the order of the columns
        for name, column in stream.columns.items():
            if name != stream.time and name not in stream.key:
                cells[name] = self.cell(stream, column)
        return Row(cells, time_us)

    def _key_cell(self, stream: Stream, column: Column, part: Any) -> Cell:
        if isinstance(part, str):
            value = part.encode() if column.kind.name == "bytes" else part
            if stream.form == "parquet":
                return Cell(value, value, as_text(value))
            return self.written(stream, column, part, value, False)
        if stream.form == "parquet":
            return Cell(part, part)
        text = str(part)
        if stream.form == "csv" or (column.declared and self.chance(3)):
            return self.written(stream, column, text, part, False)
        return Cell(text, part)

    def _time_cell(self, stream: Stream, when: Notation, time_us: int) -> Cell:
        spelled = when.spell(time_us)
        if stream.form == "parquet":
            return Cell(spelled, time_us, spelled if isinstance(spelled, str) else None)
        column = stream.columns[stream.time]
        if stream.form == "jsonl" and when.numeric and not (column.declared and self.chance(3)):
            return Cell(str(spelled), time_us)
        return self.written(stream, column, str(spelled), time_us, False)

    def damage(self, stream: Stream, row: Row) -> None:
        """Make a record invalid."""
        when: Notation = stream.style["time"]
        for name, cell in row.cells.items():
            if cell.bad and name != stream.time and name not in stream.key:
                row.cells[name] = self.null(stream)
        lines = {
            "csv": ("cut", "long", "bytes", "quote"),
            "jsonl": ("cut", "array", "number", "bytes", "null", "text"),
            "parquet": (),
        }[stream.form]  # fmt: skip
        if stream.options.get("quote") == "":
            lines = tuple(line for line in lines if line != "quote")
        if any(column.kind.name == "bytes" for column in stream.columns.values()):
            lines = tuple(line for line in lines if line != "bytes")
        way = self.one((*lines, "null key", "null time", "range", "soon", "bad key"))
        if way in lines:
            row.damage, row.reasons = way, frozenset(("undecodable", "wrong_type"))
            return
        row.reasons = frozenset(("null_time",))
        column = stream.columns[stream.time]
        if way == "null key":
            row.cells[self.one(stream.key)] = self.null(stream)
            row.reasons = frozenset(("null_key",))
        elif way == "range":
            unsigned = column.stored in (pa.uint32(), pa.uint64())
            beyond = self.one((4_200_000_000,) if unsigned else (4_200_000_000, -1))
            row.cells[stream.time] = self._time_cell(stream, when, beyond * 1_000_000)
            row.reasons = frozenset(("time_out_of_range",))
        elif way == "soon" and (stream.form != "parquet" or column.stored == pa.string()):
            row.cells[stream.time] = self.written(stream, column, "soon", None, True)
            row.reasons = frozenset(("wrong_type",))
        elif way == "bad key" and (numbers := [
            name for name in stream.key
            if stream.form != "parquet" and stream.columns[name].kind.name in ("int64", "uint64")
        ]):  # fmt: skip
            name = self.one(numbers)
            row.cells[name] = self.written(stream, stream.columns[name], "abc", None, True)
            row.reasons = frozenset(("wrong_type",))
        else:
            row.cells[stream.time] = self.null(stream)

    def files(self, stream: Stream, rows: list[Row]) -> None:
        """Share rows out to files, each with its own columns in its own order."""
        count = self.one((1, 1, 2, 3))
        needed = {stream.time, *stream.key}
        for at in range(count):
            own = [row for row in rows if count == 1 or self.count(0, count - 1) == at]
            rows = [row for row in rows if not any(row is taken for taken in own)]
            if at == count - 1:
                own += rows
            names = list(stream.columns)
            if any(file.columns for file in stream.files) and self.chance(2):
                names = [name for name in names if name in needed or not self.chance(3)]
            if self.chance(3):
                names = list(self.draw(st.permutations(names)))
            empty = not own and stream.form != "parquet" and self.chance(2)
            stream.files.append(File(None if empty else names, own))
        for file in stream.files:
            self._settle_types(stream, file)

    def _settle_types(self, stream: Stream, file: File) -> None:
        """Let most values of an undeclared JSON column have its type, in every file."""
        if stream.form != "jsonl" or file.columns is None:
            return
        for name in list(file.columns):
            sound = [row for row in file.rows if not row.damage]
            odd = [row for row in sound if row.cells[name].bad]
            good = sum(row.cells[name].value not in (None, []) for row in sound)
            if odd and good <= 2 * len(odd):
                for row in odd:
                    row.cells[name] = Cell("null")
                    if name == stream.time:
                        row.reasons = frozenset(("null_time",))
                    elif name in stream.key:
                        row.reasons = frozenset(("null_key",))


@st.composite
def cases(draw: Any) -> Case:
    """Cases of a log."""
    drawing = Drawing(draw)
    one, chance, count = drawing.one, drawing.chance, drawing.count
    families = [one(("text", "text", "int64", "uint64")) for _ in range(one((1, 1, 2)))]
    labels = ["click", "buy"][: one((1, 1, 2))]
    impressions = drawing.stream("impressions", families, count(0, 6))
    actions = [drawing.stream(label, families, count(0, 2)) for label in labels]
    streams = [impressions, *actions]
    pools = {
        "text": [text for text in (*TEXTS, *BREAKS) if all(writable(s, text) for s in streams)],
        "int64": [0, 1, -1, 7, 40_000, 2**53 + 1, 2**63 - 1, -(2**63)],
        "uint64": [0, 1, 7, 2**63, 2**64 - 1],
    }
    key = st.tuples(*(st.sampled_from(pools[family]) for family in families))
    keys = draw(st.lists(key, min_size=2, max_size=6, unique=True))
    start = one(STARTS)
    at = st.integers(0, HOUR - 1)
    shown = keys[:-1]  # nothing is shown of the last one
    for stream in streams:
        some = shown if stream is impressions else [one(keys) for _ in range(count(1, 6))]
        rows = [drawing.row(stream, key, start + draw(at)) for key in some]
        for _ in range(count(0, 2)):
            again = one(rows)
            way = one(("double", "damage", "damage"))
            row = Row(dict(again.cells), again.time_us, again.damage, again.reasons)
            if way == "damage" and not row.reasons:
                drawing.damage(stream, row)
            rows.insert(count(0, len(rows)), row)
        drawing.files(stream, rows)
    # Of few rows each would have to vouch for the others' times.
    join = {"end_of_log": "close", "early": "12h", "shards": count(1, 3), "max_jump": "30000d"}
    case = Case(streams, {"join": join})
    for stream in actions:
        stream.options["window"] = "1d"
        free = [name for name in stream.columns if name not in (*stream.key, stream.time)]
        if free:
            stream.options["columns"] = free
    _roles(drawing, case)
    if chance(3):
        case.tables["replay"] = {"batch_rows": count(1, 4)}
    return case


def _roles(drawing: Drawing, case: Case) -> None:
    """Give the columns of impressions roles."""
    stream = case.streams[0]
    features: dict[str, Any] = {"categorical": [], "multi_valued": [], "numeric": {}, "crosses": []}
    slices: list[str] = []
    for column in list(stream.columns.values()):
        if column.name == stream.time or column.name in stream.key:
            continue
        kind = column.kind.name
        roles = ["carried"]
        if kind.startswith("list"):
            roles += ["multi_valued", "cross"]
        else:
            roles += ["categorical", "cross"]
            if kind == "string":
                roles += ["multi_valued", "rate"]
            if kind not in ("bytes", "json"):
                roles.append("slice")
            if kind in ("int64", "uint64", "float64"):
                roles += ["numeric", "keep"]
        role = drawing.one(roles)
        column.roles = (role,)
        if role == "categorical":
            features["categorical"].append(column.name)
        elif role == "multi_valued":
            separator = {"column": column.name, "separator": drawing.one((",", "|"))}
            features["multi_valued"].append(separator if kind == "string" else column.name)
        elif role == "numeric":
            features["numeric"][column.name] = drawing.one(("linear", "log", [0, 1.5, 100]))
            if stream.form == "csv" and kind == "float64" and drawing.chance(2):
                column.declared = False
                stream.options["types"].pop(column.name)
        elif role == "cross":
            features["crosses"].append([stream.key[0], column.name])
        elif role == "slice":
            slices.append(column.name)
        elif role == "rate" and case.rates is None:
            case.rates = (column.name, {"a": 0.5, "NA": 0.25})
        elif role == "keep" and case.keep is None and "`" not in column.name:
            case.keep = column.name
        else:
            column.roles = ("carried",)
    features["categorical"].append(stream.key[0])
    features = {name: what for name, what in features.items() if what}
    case.tables["learner"] = {"label": case.streams[1].name, "bits": 8, "features": features}
    sampling: dict[str, Any] = {}
    if case.rates is not None:
        column_, values = case.rates
        sampling["negative_rate"] = {"column": column_, "values": values, "default": 1}
    if case.keep is not None:
        sampling |= {"keep": f"`{case.keep}` > 3"}
        sampling.setdefault("negative_rate", 0.5)
    if sampling:
        case.tables["sampling"] = sampling
    if slices:
        case.tables["monitor"] = {"slices": slices}
    carried = [name for name, column in stream.columns.items() if column.nested]
    if carried or drawing.chance(4):
        stream.options["columns"] = [
            name for name, column in stream.columns.items()
            if name not in (stream.time, *stream.key) and (column.nested or drawing.chance(2))
        ]  # fmt: skip
