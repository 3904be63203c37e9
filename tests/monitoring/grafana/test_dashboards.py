"""Dashboards: their files are what the code makes, and Grafana takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from headrace.monitoring.grafana.dashboards import DASHBOARDS, texts
from headrace.monitoring.grafana.panels import WIDTH
from headrace.monitoring.prometheus.metrics import METRICS

FOLDER = Path(__file__).parents[3] / "docker" / "grafana" / "dashboards"
MADE = {name: make() for name, make in DASHBOARDS.items()}
PANELS = [(name, panel) for name, made in MADE.items() for panel in made["panels"]]
EVERY = pytest.mark.parametrize(
    ("name", "panel"), PANELS, ids=[f"{name}-{panel['title']}" for name, panel in PANELS]
)


def expressions(panel):
    """Return the expressions of a panel, with what Grafana puts in place of its variables."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "1m")
        for variable, every in (("learner", ".*"), ("slice", ".+"), ("predicted", "learned")):
            expression = expression.replace(f"${variable}", every)
        assert "$" not in expression
        yield expression


def test_the_files_are_what_the_code_makes():
    """If not: python -m headrace.monitoring.grafana.dashboards docker/grafana/dashboards."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == texts()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_knows_all_that_a_dashboard_says(name):
    """By the types of Grafana's own kit: what they do not know is lost on the way through them."""
    pytest.importorskip("grafana_foundation_sdk", reason="pip install grafana-foundation-sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    read = Dashboard.from_json(json.loads(json.dumps(MADE[name])))
    assert lost(MADE[name], json.loads(JSONEncoder(sort_keys=True).encode(read))) == []


def lost(before, after, path=""):
    """Return where something is not as before; what was added does not count."""
    if isinstance(before, dict) and isinstance(after, dict):
        gone = [f"{path}/{key}" for key in before if key not in after]
        return gone + [
            one for key in before.keys() & after.keys()
            for one in lost(before[key], after[key], f"{path}/{key}")
        ]  # fmt: skip
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            one for number, pair in enumerate(zip(before, after, strict=True))
            for one in lost(*pair, f"{path}/{number}")
        ]  # fmt: skip
    return [] if before == after else [path]


def test_what_grafana_does_not_know_is_found():
    """The test above can fail."""
    pytest.importorskip("grafana_foundation_sdk", reason="pip install grafana-foundation-sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    wrong = json.loads(json.dumps(MADE["joiner"]))
    wrong["panels"][0]["gridpos"] = wrong["panels"][0].pop("gridPos")
    read = Dashboard.from_json(json.loads(json.dumps(wrong)))
    assert lost(wrong, json.loads(JSONEncoder(sort_keys=True).encode(read)))


@EVERY
def test_every_expression_parses(name, panel):
    parser = pytest.importorskip("promql_parser", reason="pip install promql-parser")
    found = list(expressions(panel))
    assert found
    for expression in found:
        parser.parse(expression)


@EVERY
def test_a_panel_asks_only_for_metrics_that_exist(name, panel):
    known = {metric.name: set(metric.labels) | {"job", "instance"} for metric in METRICS}
    for expression in expressions(panel):
        asked = re.findall(r"\bheadrace_\w+", expression)
        assert asked
        assert set(asked) <= known.keys()
        for metric, matchers in re.findall(r"\b(headrace_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= known[metric]


@EVERY
def test_a_panel_says_what_it_shows(name, panel):
    """Title, description, unit, the data source of the variable, a place inside the grid."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    place = panel["gridPos"]
    assert place["x"] >= 0
    assert place["x"] + place["w"] <= WIDTH


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_do_not_lie_on_each_other(name):
    cells = [
        (x, y) for panel in MADE[name]["panels"] for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]  # fmt: skip
    assert len(cells) == len(set(cells))


def test_dashboards_have_names_of_their_own():
    assert len({made["uid"] for made in MADE.values()}) == len(MADE)
    for made in MADE.values():
        assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
        variables = {variable["name"] for variable in made["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(made["panels"])))
        assert used - {"__rate_interval"} <= variables
