import hashlib

import pytest

from headrace.monitoring.notations import differ

HEX = [hashlib.md5(str(n).encode()).hexdigest() for n in range(200)]
NUMBERS = [str(n * 7919) for n in range(1, 200)]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ([key.upper() for key in HEX], HEX),
        ([f"{key[:8]}-{key[8:]}" for key in HEX], HEX),
        ([f"{key}.0" for key in NUMBERS], NUMBERS),
        ([f"req-{key}" for key in NUMBERS], NUMBERS),
        ([f" {key}" for key in HEX], HEX),
        ([key[:16] for key in HEX], HEX),
        ([f'"{key}"' for key in HEX], HEX),
    ],
    ids=["capitals", "dashes", "decimals", "prefix", "blank", "cut off", "quotes"],
)
def test_keys_in_another_notation_are_told_by_an_example(here, there):
    """Whatever differs."""
    found = differ(here, there)
    assert found is not None
    assert (found[0] in here, found[1] in there) == (True, True)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (HEX[:100], HEX[100:]),
        (NUMBERS[:100], NUMBERS[100:]),
        ([key.upper() for key in HEX[:49]], HEX),
        ([*HEX[:20], *(key.upper() for key in HEX[:100])], HEX),
        ([key.upper() for key in HEX], [*HEX, *(f"{key.upper()}" for key in HEX[:20])]),
    ],
    ids=["text", "numbers", "few", "a part only", "both notations there"],
)
def test_keys_that_look_alike_are_not_told(here, there):
    """Then it is for another reason that they do not match."""
    assert differ(here, there) is None
