"""Mutations of what is written: JSON, Arrow, bytes. The same for the same random numbers."""

from __future__ import annotations

import base64
import copy
import json

import numpy as np
import pyarrow as pa

from headrace.schemas.records.envelope import EventEnvelope, SampleEnvelope

ODD = [
    None, True, False, -1, 0, 1, 7, 2**31, 2**53, -(2**62), 2**62, 2**63, 2**70, 0.5, -3.0, 1e300,
    float("nan"), float("inf"), "", "x", "../../evil", "/tmp/headrace-evil", "\x00", "\ud800", [],
    {}, [[]], [1, 2, 3], {"a": 1}, "impressions", "9" * 400,
]  # fmt: skip
KINDS = [
    pa.int8(), pa.int32(), pa.int64(), pa.uint32(), pa.uint64(), pa.float32(), pa.float64(),
    pa.string(), pa.bool_(), pa.timestamp("us", "UTC"),
]  # fmt: skip


def paths(value, at=()):
    """Return the path of every part of a JSON value."""
    found = [at] if at else []
    inner = value.items() if isinstance(value, dict) else enumerate(
        value if isinstance(value, list) else ()
    )  # fmt: skip
    for key, part in inner:
        found += paths(part, (*at, key))
    return found


def mutated_json(value, random):
    """Return JSON with one part replaced, removed, repeated, renamed or a little changed."""
    changed = copy.deepcopy(value)
    *way, last = random.choice(paths(changed))
    owner = changed
    for key in way:
        owner = owner[key]
    old = owner[last]
    match random.randrange(8):
        case 0:
            del owner[last]
        case 1 if isinstance(owner, dict):
            owner[random.choice(["../x", "", "x", f"{last}0"])] = owner.pop(last)
        case 2 if isinstance(owner, list):
            owner.insert(last, copy.deepcopy(old))
        case 3 if isinstance(old, list) and old:
            owner[last] = old[::-1] + old[:1]
        case 4 if isinstance(old, str) and old:
            owner[last] = mutated_text(old, random)
        case 5 if isinstance(old, int) and not isinstance(old, bool):
            owner[last] = old + random.choice([-1, 1, 1000, -(10**9), 10**12])
        case _:
            owner[last] = random.choice(ODD)
    return changed


def mutated_text(text, random):
    """Return text with other contents; if it is base 64, with other bytes within."""
    try:
        data = base64.b64decode(text, validate=True)
        return base64.b64encode(mutated_bytes(data, random)).decode()
    except ValueError:
        return text + random.choice(ODD[18:23])


def mutated_bytes(data, random):
    """Return bytes of which some are others, are missing, or are there twice."""
    changed = bytearray(data)
    if not changed:
        return random.randbytes(8)
    at = random.randrange(len(changed))
    match random.randrange(6):
        case 0:
            del changed[at:]
        case 1:
            changed[at : at + 8] = random.choice(
                [b"\xff" * 8, b"\x00" * 8, (2**62).to_bytes(8, "little"), b"\x7f\xff\xff\xff" * 2]
            )
        case 2:
            changed[at:at] = changed[: random.randrange(1, 64)]
        case 3:
            del changed[at : at + random.choice([1, 4, 8])]
        case _:
            for _ in range(random.choice([1, 1, 3, 20])):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def mutated_batch(batch, random):
    """Return a batch with another column: of another type, with nulls, out of range, renamed."""
    names, columns = list(batch.schema.names), list(batch.columns)
    at = random.randrange(len(columns))
    column = columns[at]
    match random.randrange(8):
        case 0:
            del names[at], columns[at]
        case 1:
            names[at] = random.choice([*names, "x", "__time", "__key0", "label"])
        case 2:
            mask = np.zeros(len(column), bool)
            mask[: random.randrange(len(column) + 1)] = True
            columns[at] = pa.array(column.to_pylist(), column.type, mask=mask)
        case 3 if is_number(column.type):
            info = np.iinfo(column.to_numpy(zero_copy_only=False).dtype)
            values = column.to_numpy(zero_copy_only=False).copy()
            values[: random.randrange(1, len(values) + 1)] = random.choice([
                info.max, info.min, 0, info.max // 2, -1 if info.min else 1, 2**31 % info.max
            ])  # fmt: skip
            columns[at] = pa.array(values)
        case 4:
            order = pa.array(random.sample(range(batch.num_rows), batch.num_rows))
            return batch.take(order)
        case 5:
            return batch.slice(random.randrange(batch.num_rows + 1))
        case 6:
            columns[at] = pa.array([0] * len(column)).cast(random.choice(KINDS))
        case _:
            columns[at] = columns[random.randrange(len(columns))]
            if columns[at].type == column.type and len(column):
                columns[at] = columns[at].take(pa.array([0] * len(column)))
    if not columns:
        return batch
    return pa.RecordBatch.from_arrays(columns, names)


def is_number(kind):
    return pa.types.is_integer(kind)


def written(batches, stream=True):
    """Return batches as an Arrow stream, or a file."""
    sink = pa.BufferOutputStream()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def mutated_arrow(data, random):
    """Return an Arrow stream or file with other bytes, or another batch, of which lengths fit."""
    if random.random() < 0.4:
        return mutated_bytes(data, random)
    stream = not data.startswith(b"ARROW1")
    reader = pa.ipc.open_stream(data) if stream else pa.ipc.open_file(data)
    batches = (list(reader) if stream
               else [reader.get_batch(i) for i in range(reader.num_record_batches)])  # fmt: skip
    at = random.randrange(len(batches)) if batches else 0
    if not batches or not batches[at].num_rows:
        return mutated_bytes(data, random)
    changed = mutated_batch(batches[at], random)
    if changed.schema == batches[at].schema:
        return written([*batches[:at], changed, *batches[at + 1 :]], stream)
    return written([changed], stream)


def mutated_envelope(data, random):
    """Return an envelope with another header, other rows, or other bytes."""
    if random.random() < 0.3:
        return mutated_bytes(data, random)
    if random.random() < 0.5:
        length = int.from_bytes(data[4:8], "little")
        header = json.dumps(mutated_json(json.loads(data[8 : 8 + length]), random)).encode()
        return data[:4] + len(header).to_bytes(4, "little") + header + data[8 + length :]
    if EventEnvelope.recognizes(data):
        found = EventEnvelope.decode(data)
        if found.batch is not None:
            object.__setattr__(found, "batch", mutated_batch(found.batch, random))
        return found.encode()
    found = SampleEnvelope.decode(data)
    parts = [found.batches, *found.beside.values()]
    parts = [of for of in parts if of]
    if parts:
        of = random.choice(parts)
        at = random.randrange(len(of))
        changed = mutated_batch(of[at], random)
        of[:] = [changed]
    return found.encode()


def mutated_piece(data, random):
    """Return what a cell of a journal has, changed: an envelope, Arrow, or a description."""
    if data[:3] in (b"HRE", b"HRS"):
        return mutated_envelope(data, random)
    if len(data) == 64:
        return mutated_bytes(data, random) if random.random() < 0.3 else (
            data[: (at := 8 * random.randrange(8))]
            + random.choice([-1, 0, 1, 2**31, 2**62, -(2**62)]).to_bytes(8, "little", signed=True)
            + data[at + 8 :]
        )  # fmt: skip
    return mutated_arrow(data, random)


def mutated_pieces(data, random):
    """Return ``join.arrow`` with another piece: other bytes within, or another place."""
    if random.random() < 0.2:
        return mutated_bytes(data, random)
    batches = list(pa.ipc.open_stream(data))
    rows = [batch.to_pylist()[0] for batch in batches]
    row = random.choice(rows)
    match random.randrange(6):
        case 0:
            row["ring"] = random.choice(["../../evil", "/tmp/headrace-evil", "ahead", "keys", ""])
        case 1:
            row["cell"] = random.choice([-1, 6, 2**31 - 1, 0])
        case 2:
            row["shard"] = random.choice([-1, 2, 2**31 - 1, 0])
        case _:
            row["data"] = mutated_piece(row["data"], random)
    return written([pa.RecordBatch.from_pylist([row], batches[0].schema) for row in rows])
