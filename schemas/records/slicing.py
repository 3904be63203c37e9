"""Slice columns as texts: encoded once for all who tell rows apart by their values."""

from __future__ import annotations

import pyarrow as pa

NULL = "(null)"
"""Stands for null among the values of a slice column."""


def as_texts(column: pa.Array) -> pa.DictionaryArray:
    """Return the values of a slice column as texts, dictionary of strings, shape (n,).

    Each text is in the dictionary once, and null is `NULL`, so that equal codes are equal texts.
    Texts are made of different values, not of all rows; of what this returned it makes the same.

    Examples
    --------
    >>> as_texts(pa.array([7, None, 7])).to_pylist()
    ['7', '(null)', '7']
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode(null_encoding="encode")
    elif column.indices.null_count or len(column.dictionary) > len(column):
        column = column.dictionary_decode().dictionary_encode(null_encoding="encode")
    texts = column.dictionary.cast(pa.string()).fill_null(NULL).dictionary_encode()
    codes = column.indices.cast(pa.int32())
    if len(texts.dictionary) < len(texts):
        codes = texts.indices.take(codes)
    return pa.DictionaryArray.from_arrays(codes, texts.dictionary)
