from __future__ import annotations

import pytest

from tests.pipelines.kafka.broker import Broker, command


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A broker of this session; it ends with it, or with its process."""
    why = command().missing()
    if why is not None:
        pytest.skip(f"no broker: {why}")
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.close()
