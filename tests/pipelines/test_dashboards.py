"""Every panel of every dashboard has data, from a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import re
import threading

import pytest

import headrace
from headrace.pipelines.app.backfilling import backfill
from headrace.pipelines.app.metrics import Metrics
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs import stream as job
from headrace.pipelines.run.liveplace import opened_live
from tests.monitoring.grafana.test_dashboards import EVERY, MADE, expressions
from tests.pipelines.growing import StandingFiles
from tests.pipelines.prometheusserver import free_port, scraping, serving, until
from tests.prometheustools import needs_prometheus

pytestmark = needs_prometheus
WINDOWS = [panel for name in ("drift", "calibration") for panel in MADE[name]["panels"]]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboards")
    headrace.generate(folder, impressions=30_000, window="1m")
    config = folder / "headrace.toml"
    text = re.sub(r'^window = "\w+"\n\Z', 'window = "1m"\n', config.read_text(), flags=re.M)
    config.write_text(f'{text}\n[live]\ncheckpoint = "1s"\nsnapshot = "1s"\nidle_after = "1h"\n')
    return config


@pytest.fixture(scope="module")
def backfilled(log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backfilled")
    result = headrace.replay(log, folder / "result")
    done = backfill(result.out)
    port = free_port()
    with serving(done.serve(port), port) as server:
        yield server, done.begin / 1e6, done.end / 1e6


@pytest.fixture(scope="module")
def live(log, tmp_path_factory):
    """A server that scrapes a live run, which stands at the end of its log until it is stopped."""
    folder = tmp_path_factory.mktemp("live")
    inputs, stopping, port = resolve(headrace.load_config(log)), threading.Event(), free_port()
    failed = []

    def run():
        growing = StandingFiles(inputs, 29_500)
        try:
            with opened_live(folder / "out") as place, Metrics(port).served() as show:
                job.stream(inputs, growing, place, stopping, show=show)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(scraping(folder / "prometheus", port))

            def settled():
                assert not failed
                return server.query("headrace_models_time_seconds") and server.query(
                    "count_over_time(headrace_window_samples[5m]) > 3"
                )

            until(settled, 120)
            yield server
    finally:
        stopping.set()
        thread.join(60)


@EVERY
def test_a_panel_has_data_of_a_run_that_goes_on(name, panel, live):
    for expression in expressions(panel):
        assert live.query(expression), expression


@pytest.mark.parametrize("panel", WINDOWS, ids=[panel["title"] for panel in WINDOWS])
def test_a_panel_about_windows_has_data_of_a_log_of_last_month(panel, backfilled):
    server, begin, end = backfilled
    for expression in expressions(panel):
        series = server.query_range(expression, begin, end, 60)
        assert series, expression
        by_window = "logits" not in expression  # those are there at the end alone
        assert max(len(points) for _, points in series) > (3 if by_window else 0)


@pytest.mark.parametrize("name", MADE)
def test_the_variables_have_values(name, live, backfilled):
    for variable in MADE[name]["templating"]["list"]:
        if variable["type"] == "query":
            (asked,) = re.findall(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            for server, at in ((live, None), (backfilled[0], backfilled[2])):
                values = {labels.get(asked[1]) for labels, _ in server.query(asked[0], at)}
                assert values - {None}, json.dumps(variable)
