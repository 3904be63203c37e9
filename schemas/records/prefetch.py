"""Asking for what a kernel visits soon, while it works on something else.

A table of millions of rows fits into no cache, and a processor that waits for each row waits most
of the time.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 64
"""Bytes of a line of the cache."""


@intrinsic
def prefetch(_, table, row):
    """Ask for the line of the cache in which ``table[row]`` begins; this has no other effect.

    `table` is an array of C order; `row` is not counted from the end.
    """

    def generate(context, builder, signature, arguments):
        kind, _ = signature.args
        array = context.make_array(kind)(context, builder, arguments[0])
        at = context.cast(builder, arguments[1], signature.args[1], types.intp)
        within = [context.get_constant(types.intp, 0)] * (kind.ndim - 1)
        begin = cgutils.get_item_pointer(context, builder, kind, array, [at, *within])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        load = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, *[number] * 3])
        )
        # To be written to; to be kept in every cache; of data, not of code.
        builder.call(load, [builder.bitcast(begin, byte), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, row), generate
