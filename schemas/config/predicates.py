"""Conditions on the columns of a row, as people write them.

``price >= 100 and device in ["tv", "console"] or not paid``: comparisons of
columns with literals, ``in`` and ``not in`` a list, ``and``, ``or``, ``not``,
parentheses, and Boolean columns by name; a name may be a path such as
``event.price``, and one that Python would not take stands in backquotes, ```unit price```.
The grammar is Python's; a comparison
with a null is not true.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.types import type_name

_COMPARISONS = {
    ast.Eq: pc.equal, ast.NotEq: pc.not_equal, ast.Lt: pc.less, ast.LtE: pc.less_equal,
    ast.Gt: pc.greater, ast.GtE: pc.greater_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Predicate:
    """A condition on the columns of a row, checked when it is made.

    Parameters
    ----------
    text
        The condition as written.

    Raises
    ------
    ValueError
        If the text is not a condition.

    Examples
    --------
    >>> rows = pa.RecordBatch.from_pydict({"price": [5, 200, None]})
    >>> Predicate("price > 100").evaluate(rows).tolist()
    [False, True, False]
    """

    text: str
    columns: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        names: list[str] = []
        if len(self.text) > MOST_CHARACTERS:
            raise ValueError(
                f"has {len(self.text):,} characters; write at most {MOST_CHARACTERS:,}"
            )
        tree = self._tree()
        if _levels(tree) > MOST_LEVELS:
            raise ValueError(f"is nested more than {MOST_LEVELS} levels deep; {_HINT}")
        _check(tree, names)
        object.__setattr__(self, "columns", tuple(dict.fromkeys(names)))

    def _tree(self) -> ast.expr:
        try:
            return ast.parse(_QUOTED.sub(_as_identifier, self.text.strip()), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"is not a valid condition ({error.msg}); {_HINT}") from error
        except (RecursionError, MemoryError):
            raise ValueError(f"is nested too deeply; {_HINT}") from None

    def evaluate(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Return which rows meet the condition, bool, shape (n,).

        Raises
        ------
        ValueError
            If a column has another type than the value it is compared with.
        """
        try:
            found = _evaluate(self._tree(), batch)
        except (
            pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, OverflowError,
        ) as error:  # fmt: skip
            raise ValueError(f"cannot be evaluated ({error}); {_HINT}") from error
        if not pa.types.is_boolean(found.type):
            raise ValueError(f"is {type_name(found.type)}, not true or false; {_HINT}")
        out: npt.NDArray[np.bool_] = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        return out


MOST_CHARACTERS = 100_000
MOST_LEVELS = 50
"""Limits of a condition: nobody writes more, and what walks its tree needs no more stack."""

_HINT = "write comparisons of columns, such as price >= 100 and device in ['tv', 'console']"


_PREFIX = "__quoted_"
_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.)*+(?:'|\Z)|"(?:[^"\\]|\\.)*+(?:"|\Z)|`(?P<name>[^`]+)`""", re.DOTALL
)
"""Texts, which may have backquotes in them, and names in backquotes. A text without an end is
taken whole, or the search would begin again at each of its characters."""


def _as_identifier(found: re.Match[str]) -> str:
    """Return a quoted name as one that Python takes; texts as they are."""
    return found[0] if found["name"] is None else _PREFIX + found["name"].encode().hex()


def _levels(tree: ast.expr) -> int:
    """Return how deep a condition is nested, without recursion."""
    levels, level = 0, [tree]
    while level:
        levels += 1
        level = [
            child
            for node in level
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.expr)
        ]
    return levels


def _check(node: ast.expr, names: list[str]) -> None:
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                _check(value, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _check(operand, names)
        case ast.Name() | ast.Attribute():
            names.append(_column(node))
        case ast.Compare(left=ast.Name() | ast.Attribute() as left, ops=[op], comparators=[right]):
            name = _column(left)
            names.append(name)
            value = _literal(right)
            if isinstance(op, ast.In | ast.NotIn) != isinstance(value, list | tuple):
                raise ValueError(f"compares {name} wrongly with {ast.unparse(right)}; {_HINT}")
            if not isinstance(op, (ast.In, ast.NotIn, *_COMPARISONS)):
                raise ValueError(f"has an unknown comparison; {_HINT}")
        case _:
            raise ValueError(f"holds {ast.unparse(node)}, which is not a comparison; {_HINT}")


def _comparable(column: pa.Array, value: Any) -> tuple[pa.Array, pa.Scalar]:
    """Return column and value as types that Arrow compares whatever the numbers are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return column, pa.scalar(value)
    if pa.types.is_integer(column.type) and isinstance(value, float):
        return column.cast(pa.float64(), safe=False), pa.scalar(value)
    if pa.types.is_floating(column.type):
        return column, pa.scalar(_as_fraction(value))
    if pa.types.is_integer(column.type) and (
        pa.types.is_uint64(column.type) or not -_BEYOND <= value < _BEYOND
    ):
        # Numbers beyond those of the column compare as the nearest beyond.
        whole = Decimal(min(max(value, -_BEYOND - 1), 2 * _BEYOND))
        return column.cast(pa.decimal128(20, 0)), pa.scalar(whole, pa.decimal128(20, 0))
    return column, pa.scalar(value)


_BEYOND = 2**63


def _as_fraction(value: float) -> float:
    """Return the nearest float64, infinity if there is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _among(column: pa.Array, values: list[Any]) -> tuple[pa.Array, pa.Array]:
    """Return a column and the values of a list as one type, without numbers it never has."""
    numbers = all(type(value) in (int, float) for value in values)
    if numbers and pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        values = [_as_fraction(value) for value in values]
    elif numbers and pa.types.is_integer(column.type):
        column, _ = _comparable(column, 2 * _BEYOND)
        values = [Decimal(int(value)) for value in values
                  if value == value // 1 and abs(value) <= 2 * _BEYOND]  # fmt: skip
        return column, pa.array(values, column.type)
    return column, pa.array(values).cast(column.type)


def _column(node: ast.expr) -> str:
    """Return the name of a column, which may be a path such as ``event.price``."""
    match node:
        case ast.Name(id=name):
            if name.startswith(_PREFIX):
                return bytes.fromhex(name.removeprefix(_PREFIX)).decode()
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_column(value)}.{name}"
    raise ValueError(f"holds {ast.unparse(node)}, which is not a column; {_HINT}")


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"holds {ast.unparse(node)}, which is not a literal; {_HINT}") from error


def _evaluate(node: ast.expr, batch: pa.RecordBatch) -> pa.Array:
    match node:
        case ast.BoolOp(op=op, values=values):
            combine = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
            found = _evaluate(values[0], batch)
            for value in values[1:]:
                found = combine(found, _evaluate(value, batch))
            return found
        case ast.UnaryOp(operand=operand):
            return pc.invert(_evaluate(operand, batch))
        case ast.Name() | ast.Attribute():
            return batch.column(_column(node))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            name, value = _column(left), _literal(right)
            column = batch.column(name)
            try:
                return _compare(op, column, value)
            except (pa.ArrowException, OverflowError) as error:
                raise ValueError(
                    f"cannot be evaluated: {ast.unparse(right)} is no value of {name}, which is "
                    f"{type_name(column.type)}; quote text and nothing else, or declare the "
                    "column's type in impressions.types"
                ) from error
    raise AssertionError(f"{ast.unparse(node)} passed the check")


def _compare(op: ast.cmpop, column: pa.Array, value: Any) -> pa.Array:
    if isinstance(op, ast.In | ast.NotIn):
        column, values = _among(column, list(value))
        among = pc.is_in(column, value_set=values)
        inside = pc.if_else(column.is_valid(), among, None)
        return inside if isinstance(op, ast.In) else pc.invert(inside)
    return _COMPARISONS[type(op)](*_comparable(column, value))
