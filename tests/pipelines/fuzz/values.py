"""Values by type: how they are written in each format, and what they are read as."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

UTC = dt.UTC
USUAL_NULLS = (
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "nan",
    "NaN",
    "NAN",
    "null",
    "NULL",
    "Null",
    "None",
    r"\N",
)
"""Texts that are null by default, in columns that are not text."""

Pool = tuple[tuple[Any, Any], ...]
"""Pairs of what is written and what it is read as."""


@dataclass(frozen=True, eq=False, repr=False)
class Kind:
    """A type of columns.

    Parameters
    ----------
    texts
        Texts that fit it: in CSV, and in text columns of the other formats.
    bad_texts
        Texts that do not.
    json, bad_json
        JSON values as they are written, that have the type, and that do not fit it.
    declared_json
        More of them that fit it if it is declared.
    stored
        Types of Parquet that are read as it.
    values
        What those may hold.
    """

    name: str
    texts: Pool = ()
    bad_texts: tuple[str, ...] = ()
    json: Pool = ()
    bad_json: tuple[str, ...] = ()
    declared_json: Pool = ()
    stored: tuple[pa.DataType, ...] = ()
    values: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"KINDS[{self.name!r}]"


TEXTS = (
    "a", "b", " ", " a ", "NA", "null", "None", r"\N", "nan", "0", "1.0", "true", "x" * 3_000,
    "\t", "\x01", "\x0b", "\x0c", "\x1c", "\x7f", "\x85", "\u2028", "\ufeffb", "\u00a0", "😀",
    "e\u0301", "é", "\u202eabc", "שלום", 'say "hi"', "it's", "a,b", "a;b", "a|b", '"', "'", '""',
    "\\", r"\n", "{", "[1]", "#", "=1+1", "-", "\x00",
)  # fmt: skip
BREAKS = ("a\nb", "\r\n", "\n", "\r")
"""Texts that a line of CSV cannot have."""

_DAY = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_MICRO = _DAY.replace(microsecond=6)
_INTS = (0, 1, -1, 7, 127, -128, 40_000, 2**31 - 1, 2**53 + 1, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 2.5, -3.25, 0.1, 1e300, -1e-300, 5e-324, 1.7976931348623157e308)
_BAD_NUMBERS = ("abc", "5%", "1 2", "0x10", "1_0", "\u0661", "--1", "true", "1,5")


def _texts(values: tuple[Any, ...]) -> Pool:
    return tuple((str(value), value) for value in values)


def _quoted(texts: tuple[str, ...]) -> Pool:
    return tuple((json.dumps(text), text) for text in texts)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "string",
            texts=tuple((text, text) for text in TEXTS),
            json=(*_quoted((*TEXTS, *BREAKS, "")), (r'"\u00e9\ud83d\ude00"', "é😀")),
            declared_json=(("7", "7"), ("-1.5", "-1.5")),
            stored=(pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())),
            values=(*TEXTS, *BREAKS, ""),
        ),
        Kind(
            "bytes",
            texts=(("a", b"a"), ("é", "é".encode()), ("\x01", b"\x01")),
            declared_json=(('"a"', b"a"), (r'"\u00e9"', "é".encode())),
            stored=(pa.binary(), pa.large_binary()),
            values=(b"a", b"", b"\xff\x00", b"NA"),
        ),
        Kind(
            "int64",
            texts=(*_texts(_INTS), (" 7 ", 7)),
            bad_texts=(*_BAD_NUMBERS, "1.5", "2.0", str(2**63), "9" * 40),
            json=_texts(_INTS),
            bad_json=('"abc"', "[]", "{}", '"1 2"'),
            declared_json=(("5.0", 5), ("1e3", 1000), ('" 7 "', 7), (f'"{2**63 - 1}"', 2**63 - 1)),
            stored=(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
                    pa.uint32(), pa.dictionary(pa.int32(), pa.int64())),
            values=_INTS,
        ),
        Kind(
            "uint64",
            texts=_texts((0, 5, 2**53 + 1, 2**63, 2**64 - 1)),
            bad_texts=(*_BAD_NUMBERS, "-1", str(2**64), "1.5"),
            json=_texts((0, 5, 2**64 - 1, 2**63)),
            bad_json=('"abc"', "[1]", "{}"),
            stored=(pa.uint64(),),
            values=(0, 5, 2**63, 2**64 - 1),
        ),
        Kind(
            "float64",
            texts=(*((repr(value), value) for value in _FLOATS), (" 2.5 ", 2.5), ("7", 7.0)),
            bad_texts=(*_BAD_NUMBERS, "1e999", "inf", "-Infinity", "1.5.2"),
            json=(*((repr(value), value) for value in _FLOATS), ("NaN", None), ("-Infinity", None),
                  ("7", 7.0), ("1e999", None)),
            bad_json=('"abc"', "[1.5]", "{}", "true", '"inf"'),
            declared_json=(('" 2.5 "', 2.5), ('"1e3"', 1000.0)),
            stored=(pa.float64(),),
            values=(*_FLOATS, float("nan"), float("inf"), float("-inf")),
        ),
        Kind(
            "bool",
            texts=(("true", True), ("false", False), ("0", False), ("1", True)),
            bad_texts=("maybe", "2", "-1", "0.5"),
            json=(("true", True), ("false", False)),
            bad_json=('"maybe"', "2", "[true]", "{}", "0.5"),
            declared_json=(("1", True), ("0", False), ('"true"', True)),
            stored=(pa.bool_(),),
            values=(True, False),
        ),
        Kind(
            "timestamp",
            texts=(("2026-01-02T03:04:05Z", _DAY), ("2026-01-02T03:04:05", _DAY),
                   ("2026-01-02T03:04:05.000006Z", _MICRO), ("2026-01-02T05:04:05+02:00", _DAY),
                   ("2026-01-02 03:04:05", _DAY), ("1969-12-31T23:59:59Z",
                    dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC))),
            bad_texts=("soon", "1767225600", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z"),
            declared_json=(('"2026-01-02T03:04:05Z"', _DAY),),
            bad_json=("1767225600", "[]", "{}", "true", '"soon"', "1.5"),
            stored=(pa.timestamp("us", "UTC"), pa.timestamp("s", "UTC"), pa.timestamp("ms", "UTC"),
                    pa.timestamp("us", "Europe/Berlin")),
            values=(_DAY,),
        ),
        Kind(
            "decimal(12, 2)",
            texts=_texts((Decimal("1.25"), Decimal("-0.01"), Decimal("9999999999.99"), Decimal(7))),
            bad_texts=(*_BAD_NUMBERS, "1.255", "12345678901", "1e20"),
            declared_json=(("1.25", Decimal("1.25")), ('"0.5"', Decimal("0.5")), ("7", Decimal(7))),
            bad_json=('"abc"', "1.255", "[]", "{}", "1e20"),
            stored=(pa.decimal128(12, 2),),
            values=(Decimal("1.25"), Decimal("-0.01")),
        ),
        Kind(
            "list<string>",
            texts=(('["x","y"]', ["x", "y"]), ("[]", []), ('["x", null]', ["x", None]),
                   ('["a,b"]', ["a,b"])),
            bad_texts=("abc", "[", "{}", "7", "x,y", "[1"),
            json=(('["x", "y"]', ["x", "y"]), ("[]", []), ('["x",null]', ["x", None]),
                  ('[""]', [""]), ('["NA", "x"]', ["NA", "x"])),
            bad_json=("{}", "7", "true"),
            stored=(pa.list_(pa.string()), pa.large_list(pa.string())),
            values=([], ["x"], ["x", None], ["", "NA"]),
        ),
        Kind(
            "list<int64>",
            texts=(("[1,2]", [1, 2]), ("[]", []), ("[null, 7]", [None, 7])),
            bad_texts=("abc", "[", "{}", "7"),
            json=(("[1, 2]", [1, 2]), ("[7, null]", [7, None]), (f"[{2**53 + 1}]", [2**53 + 1])),
            bad_json=("{}", "7", "true"),
            stored=(pa.list_(pa.int64()), pa.list_(pa.int16())),
            values=([], [1], [1, None]),
        ),
        Kind(
            "json",
            json=tuple((text, text) for text in ('{"a": 1}', "{}", '{"b":{"c":[1.50]}}')),
            declared_json=tuple((text, text) for text in ("[1,  2]", "1.50", '"x"', "true")),
        ),
    )
}  # fmt: skip

NOTATIONS = {
    (",", "."): ((("1.234,5", 1234.5), ("-1.234.567", -1234567.0), ("2,5", 2.5), ("7", 7.0)),
                 ("1,234.5", "1.5", "1.23,4")),
    (".", ","): ((("1,234.5", 1234.5), ("2.5", 2.5), ("12,345", 12345.0)), ("1.234,5", "1,2")),
    (".", "'"): ((("1'234.5", 1234.5), ("2.5", 2.5)), ("1'2", "2,5")),
    (".", " "): ((("1 234.5", 1234.5), ("1\u202f234", 1234.0), ("1\u00a0234", 1234.0)), ("1 2",)),
    (",", ""): ((("2,5", 2.5), ("7", 7.0), ("-0,25", -0.25)), ("2.5", "1.234,5")),
}  # fmt: skip
"""Texts of floats by (decimal, thousands): those that fit, and those that do not."""

NAMES = (
    "site", "with blank", "größe", "日本", "a.b", "a-b", "it's", "comma,name", "select", "class",
    "1st", "*", "x*y", "%", "$ref", "a/b", "UPPER", "upper", "end ", " lead", "#", "[0]",
    "{x}", "categorical:x", "😀", "e\u0301", "é", "None", "0", "-",
    "a;b", "a|b",
)  # fmt: skip
