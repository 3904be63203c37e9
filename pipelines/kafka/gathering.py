"""librdkafka's messages, gathered from where they lie into columns.

A message is a C structure of nine 64-bit words, ``rd_kafka_message_t`` in ``rdkafka.h``, of
which the form is part of the library's binary interface.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from headrace.schemas.records.bytekernel import bytes_at

ERROR, PAYLOAD, SIZE, OFFSET, WORDS = 0, 3, 4, 7, 9
"""Words of a message: the error is the lower half of its word; `PAYLOAD` is an address."""


@intrinsic
def _words_at(typing, address):
    """Return the 64-bit words at an address."""
    pointer = types.CPointer(types.int64)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64), generate


@intrinsic
def _timestamp_by(typing, function, message, kind):
    """Call ``int64_t function(message, kind)``, all of them addresses."""
    signature = types.int64(types.int64, types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        from llvmlite import ir

        word = ir.IntType(64)
        called = ir.FunctionType(word, [word, word]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], called), arguments[1:])

    return signature, generate


@intrinsic
def _destroy_by(typing, function, message):
    """Call ``void function(message)``, both of them addresses."""
    signature = types.void(types.int64, types.int64)

    def generate(context, builder, signature, arguments):
        from llvmlite import ir

        word = ir.IntType(64)
        called = ir.FunctionType(ir.VoidType(), [word]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], called), arguments[1:])
        return context.get_dummy_value()

    return signature, generate


@numba.njit(cache=True, nogil=True)
def survey(messages, first, last, most_bytes, offsets, timestamps, sizes, kinds, timestamp_of):
    """Look at messages up to a limit of bytes, or to one that is an error.

    Parameters
    ----------
    messages
        Their addresses, int64, shape (n,); those in ``[first, last)`` are looked at.
    most_bytes
        The first message that brings the sum of sizes above this ends it, if another was before.
    offsets, timestamps, sizes
        Filled for each, int64, shape (last - first,). The size of a null is -1.
    kinds
        A word for the kind of a timestamp, which is not used, int64, shape (1,).
    timestamp_of
        Address of ``rd_kafka_message_timestamp``.

    Returns
    -------
    tuple
        The index after the last good message, and the sum of their sizes.
    """
    total = 0
    kind = kinds.ctypes.data
    for at in range(first, last):
        message = numba.carray(_words_at(messages[at]), (WORDS,))
        if np.int32(message[ERROR] & 0xFFFFFFFF) != 0:
            return at, total
        size = message[SIZE]
        if message[PAYLOAD] == 0:
            size = -1
        elif total + size > most_bytes and at > first:
            return at, total
        else:
            total += size
        row = at - first
        offsets[row] = message[OFFSET]
        sizes[row] = size
        timestamps[row] = _timestamp_by(timestamp_of, messages[at], kind)
    return last, total


@numba.njit(cache=True, nogil=True)
def gather(messages, first, last, sizes, ends, buffer, destroy):
    """Copy the values of messages into one buffer, and destroy the messages.

    Parameters
    ----------
    messages, first, last, sizes
        See `survey`.
    ends
        Filled with where each value begins, and the last ends, int32, shape (n + 1,).
    buffer
        Filled with their bytes, uint8.
    destroy
        Address of ``rd_kafka_message_destroy``.
    """
    written = 0
    for at in range(first, last):
        row = at - first
        ends[row] = written
        size = sizes[row]
        if size > 0:
            message = numba.carray(_words_at(messages[at]), (WORDS,))
            value = numba.carray(bytes_at(message[PAYLOAD]), (size,))
            for byte in range(size):  # compiled to one copy; a slice is checked and slower
                buffer[written + byte] = value[byte]
            written += size
        _destroy_by(destroy, messages[at])
    ends[last - first] = written
