"""Rules for Prometheus: what they ask for exists, and each alert fires only when it should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from headrace.monitoring.prometheus.metrics import METRICS
from tests.prometheustools import needs_prometheus

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docker" / "prometheus"
GROUPS = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]


def run(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_prometheus
def test_promtool_takes_the_rules_and_the_configuration():
    assert f"{len(RULES)} rules found" in run("check", "rules", "rules.yml")
    run("check", "config", "--syntax-only", "prometheus.yml")


@needs_prometheus
def test_every_alert_fires_when_it_should_and_else_not():
    """Promtool plays the series of rules_test.yml."""
    assert "SUCCESS" in run("test", "rules", "rules_test.yml")


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    found = {case["name"]: case for case in CASES}
    assert found.keys() == ALERTS.keys()
    for name, case in found.items():
        (asked,) = case["alert_rule_test"]
        assert asked["alertname"] == name
        assert [alert["exp_labels"]["instance"] for alert in asked["exp_alerts"]] == ["bad"]
        series = " ".join(one["series"] for one in case["input_series"])
        assert set(re.findall(r'instance="(\w+)"', series)) > {"bad"}


def test_rules_ask_only_for_metrics_that_exist():
    known = {metric.name for metric in METRICS} | {rule.get("record") for rule in RULES}
    for rule in RULES:
        asked = set(re.findall(r"\bheadrace[\w:]+", rule["expr"])) - {"headrace"}
        assert asked <= known, rule
        assert asked or "up{" in rule["expr"]


def test_every_alert_says_what_to_do():
    """Its link leads to a paragraph of the runbook, and the runbook has no others."""
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    anchors = {title.lower() for title in re.findall(r"^## (\w+)$", page, re.M)}
    links = {rule["annotations"]["runbook_url"] for rule in ALERTS.values()}
    assert links == {f"docs/runbook.md#{anchor}" for anchor in anchors}
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")
        assert rule["labels"]["severity"] in ("page", "warn")
    inside = set(re.findall(r"\]\(#(\w+)\)", page))
    assert inside <= anchors


def test_every_alert_has_hysteresis():
    for rule in ALERTS.values():
        assert "keep_firing_for" in rule
        assert "for" in rule or "headrace_guard_" in rule["expr"]  # the guard has its own


def test_shares_have_a_floor_on_their_counts():
    """A share or ratio of a handful of records wakes nobody."""
    for name, rule in ALERTS.items():
        if "count5m /" in rule["expr"] or "/ on" in rule["expr"] or "sum30m" in rule["expr"]:
            assert re.search(r">= \d{3,}", rule["expr"]), name


def test_no_rule_extrapolates():
    assert not any(re.search(r"\b(increase|rate)\(", rule["expr"]) for rule in RULES)
