"""The page on metrics has all of them."""

from __future__ import annotations

from pathlib import Path

from headrace.monitoring.prometheus.metrics import METRICS

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_page_has_every_metric_as_it_is():
    """Names, types, labels and what they say, in their order, and no other."""
    expected = []
    for metric in METRICS:
        labels = ", ".join(f"`{name}`" for name in metric.labels)
        kind = "counter" if metric.is_counter else "gauge"
        expected.append(f"| `{metric.name}` | {kind} | {labels} | {metric.text} |")
    assert [line for line in PAGE.splitlines() if line.startswith("| `headrace_")] == expected
