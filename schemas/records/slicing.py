"""Slice columns as texts: encoded once for all who tell rows apart by their values."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

NULL = "(null)"
"""Stands for null among the values of a slice column."""

LONGEST = 200
"""Characters of a value by which rows are told apart."""

CUT = "…"
"""Ends a value that was longer."""


def as_texts(column: pa.Array) -> pa.DictionaryArray:
    """Return the values of a slice column as texts, dictionary of strings, shape (n,).

    Each text is in the dictionary once, and null is `NULL`, so that equal codes are equal texts.
    Texts are made of different values, not of all rows; of what this returned it makes the same.
    A value of more than `LONGEST` characters is cut there and ends in `CUT`: strangers write
    values, and they must not decide how much of them is kept. Values that are equal so far are one.

    Examples
    --------
    >>> as_texts(pa.array([7, None, 7])).to_pylist()
    ['7', '(null)', '7']
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    elif column.indices.null_count or len(column.dictionary) > len(column):
        column = column.dictionary_decode().dictionary_encode(null_encoding="encode")
    texts = _cut(column.dictionary.cast(pa.string())).fill_null(NULL).dictionary_encode()
    codes = column.indices.cast(pa.int32())
    if len(texts.dictionary) < len(texts):
        codes = texts.indices.take(codes)
    return pa.DictionaryArray.from_arrays(codes, texts.dictionary)


def _cut(texts: pa.Array) -> pa.Array:
    """Return texts with the end of the long ones cut off."""
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= LONGEST:
        return texts  # no character is less than a byte
    heads = pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, LONGEST), CUT, "")
    return pc.if_else(pc.greater(pc.utf8_length(texts), LONGEST), heads, texts)
