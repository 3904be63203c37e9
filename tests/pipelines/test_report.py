"""The report of a replay, in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.monitoring.report.page import render_report
from headrace.monitoring.statistics import Observation, Statistics
from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from headrace.schemas.config.durations import HOUR
from tests.monitoring.test_report import DAY_1, journal
from tests.pipelines.outputs import contents

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MEASURE = """
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const size = (of) => [of.getBoundingClientRect().width, of.getBoundingClientRect().height];
  document.title = JSON.stringify({
    wide: page.documentElement.scrollWidth,
    cut: [...page.querySelectorAll(".scroll")].filter((of) => of.scrollWidth > of.clientWidth)
      .length,
    ink: getComputedStyle(page.body).color,
    charts: [...page.querySelectorAll("svg")].map((chart) => ({
      size: size(chart),
      marks: [...chart.querySelectorAll(".role-mark path, .role-mark line")].map(size),
      colours: [...chart.querySelectorAll("path, text")].map((of) => getComputedStyle(of).fill),
    })),
  });
});
</script>
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The result of two learners on a log of a day and a half."""
    folder = tmp_path_factory.mktemp("report")
    write_traffic(Traffic(impressions=6_000, rate=0.05, seed=7, click_rate=0.2), folder)
    config = folder / "headrace.toml"
    text = config.read_text().replace("bits = 20", "bits = 12")
    text = text.replace('window = "5m"', 'window = "1h"')
    small = text[text.index("[learner]") : text.index("[monitor]")]
    for name in ("plain", "other"):
        text += small.replace("[learner", f"[learners.{name}")
    config.write_text(text.replace(small, ""))
    assert main(["replay", str(config), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def page(out):
    return (out / "report.html").read_text()


def measured(folder, page, width, *options):
    """Return what a browser says of a page in a frame of a width, and what it complains of."""
    harness = folder / "harness.html"
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}">'
    harness.write_text(f"<!doctype html><title></title>{MEASURE}{frame}</iframe>")
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", *options,
        "--dump-dom", harness.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), complaints


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to show the page with")


@needs_browser
@pytest.mark.parametrize("width", [375, 1280])
def test_every_chart_is_drawn_and_nothing_scrolls_sideways(tmp_path, page, width):
    """On a phone and on a screen, with all that can be opened, and no error in the console."""
    page = page.replace("<details>", "<details open>")
    found, complaints = measured(tmp_path, page, width)
    assert complaints == []
    assert found["wide"] <= width
    assert found["cut"] == 0
    assert len(found["charts"]) == page.count("<svg") >= 9
    for chart in found["charts"]:
        assert min(chart["size"]) > 50
        assert any(max(mark) > 2 for mark in chart["marks"])


@needs_browser
def test_dark_mode_changes_page_and_charts(tmp_path, page):
    """Every colour of the charts is one of the page."""
    light, _ = measured(tmp_path, page, 800)
    dark, _ = measured(tmp_path, page, 800, "--blink-settings=preferredColorScheme=0")
    assert light["ink"] != dark["ink"]
    for one, other in zip(light["charts"], dark["charts"], strict=True):
        seen = set(one["colours"]) & set(other["colours"])
        assert seen <= {"none", "rgba(0, 0, 0, 0)", "rgb(0, 0, 0)"}, seen


def test_a_report_opens_offline(page):
    """Nothing is loaded: addresses are names of XML alone, and there is no script."""
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert not re.search(r"<script|<link|<img|@import|url\(|\bsrc=|\bhref=", page)


def test_the_sections_come_in_order_of_what_is_asked_first(page):
    """The verdict before everything."""
    found = re.findall(r"<h2>(.*?)</h2>", page)
    assert found == [
        "Headline figures", "Slices over time", "Guard", "Label click, within 10m", "Records",
        "Learner plain: ftrl on click", "Learner other: ftrl on click", "Learners side by side",
        "What other detectors would have said", "Exposure by slice", "Configuration",
    ]  # fmt: skip
    assert page.index("times as many positives as learner plain predicts") < page.index("<h2>")
    assert "Pairwise fairness is not computed" in page


def test_a_report_is_the_same_on_every_run_of_the_same_log(out, tmp_path):
    """But for the line of time and memory."""
    config = out.parent / "headrace.toml"
    again = tmp_path / "again"
    assert main(["replay", str(config), "--out", str(again), "--quiet"]) == 0
    assert contents(again)["report.html"] == contents(out)["report.html"]


def test_delays_and_sources_are_those_of_the_files(out):
    """Delays are counted from the samples, up to the window."""
    summary = json.loads((out / "summary.json").read_text())
    samples = pq.read_table(out / "samples")
    took = samples.filter(samples.column("click"))
    delay = (took["click_time"].to_numpy() - took["event_time"].to_numpy()).astype("m8[us]")
    seconds = delay.astype(np.int64) / 1e6
    label = summary["labels"]["click"]
    edges = [0, *(of["below_s"] for of in label["delays"])]
    expected, _ = np.histogram(seconds, edges)
    assert [of["actions"] for of in label["delays"]] == expected.tolist()
    assert (edges[-1], label["window_s"]) == (600, 600)
    assert label["positives"] == seconds.size
    assert label["outside_window"] == summary["outcomes"]["click"]["outside_window"]
    assert {of["stream"]: of["records"] for of in summary["sources"]} == summary["input"]
    log = out.parent / "impressions.parquet"
    latest = pq.read_table(log)["time"].to_numpy().max() // 1_000_000
    shown = next(of["latest"] for of in summary["sources"] if of["stream"] == "impressions")
    assert np.datetime64(shown[:19]) <= np.datetime64(int(latest), "s")


def test_a_run_says_what_it_was(out, page):
    """Its time, its labels, and the whole configuration as a file would have it."""
    summary = json.loads((out / "summary.json").read_text())
    first, last = (of.replace("T", " ")[:19] for of in (
        summary["spans"]["impressions"]["first"], summary["spans"]["click"]["last"]))  # fmt: skip
    assert f"{first} to {last} UTC, taken as complete; click within 10m" in page
    assert "learned by plain, other" in page
    lines = html.unescape(re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)[1])
    assert tomllib.loads(lines) == summary["config"]


def test_a_label_that_is_not_learned_has_its_section_too(out):
    """With rates by day where a log is long."""
    summary = json.loads((out / "summary.json").read_text())
    bins = [
        {"start": f"2026-05-{day:02}T00:00:00+00:00", "samples": 1000, "positives": 10 * day,
         "weight": 1000.0, "label_rate": 0.01 * day,
         "label_rate_interval": [0.005 * day, 0.02 * day]}
        for day in range(1, 6)
    ]  # fmt: skip
    summary["labels"]["buy"] = {
        **summary["labels"]["click"], "window_s": 86_400.0, "bin_s": 86_400.0, "bins": bins,
        "coverage": {"quarter": 0.5, "half": 0.75, "window": 0.9}, "orphans": 1234,
    }  # fmt: skip
    page = render_report({**summary, "learners": {}}, {}, [])
    buy = page[page.index("<h2>Label buy, within 1d</h2>") : page.index("<h2>Records")]
    assert "not learned" in buy
    for head, cell in (("came by 6h", "50.0%"), ("came by 12h", "75.0%"), ("came by 1d", "90.0%"),
                       ("orphans", "1,234")):  # fmt: skip
        assert re.search(f'data-head="{head}"[^<]*>{cell}<', buy)
    assert "<summary>By day</summary>" in buy
    assert re.findall(r'data-head="day \(UTC\)">([^<]+)<', buy)[::4] == ["2026-05-01", "2026-05-05"]


def crowded(hours, values, columns):
    """Return statistics of many windows, values and columns."""
    random = np.random.default_rng(0)
    rows = hours * 200
    names = [f"a-long-name-of-a-column-{number}" for number in range(columns)]
    statistics = Statistics(HOUR, tuple(names))
    margin = random.normal(-2, 1, rows)
    slices = {
        name: pa.array([f"value-{of}" for of in random.integers(0, values, rows)]) for name in names
    }
    statistics.observe(
        Observation(
            DAY_1 + np.arange(rows) * HOUR // 200, (random.random(rows) < 0.1).astype(float),
            np.ones(rows), margin, slices,
        )
    )  # fmt: skip
    return statistics


@needs_browser
def test_a_large_report_is_small_enough_and_fits_a_phone(out, tmp_path):
    """Forty days, six slices with long names, a guard that said much."""
    summary = json.loads((out / "summary.json").read_text())
    statistics = crowded(40 * 24, 60, 6)
    rows = journal(
        (24, None, None, "armed"),
        *((30 + n, "device", f"value-{n % 40}", ("warn", "calm")[n % 2]) for n in range(400)),
    )
    page = render_report(
        summary, dict.fromkeys(summary["learners"], statistics), ["a finding"], guard=rows
    )
    assert len(page.encode()) < 1_500_000
    assert "351 earlier events" in page
    found, complaints = measured(tmp_path, page, 390)
    assert complaints == []
    assert found["wide"] <= 390
    assert found["charts"][6]["size"][1] > 100  # the guard's


def test_html_in_values_is_text(out):
    """A value of a slice is what anybody may have sent."""
    summary = json.loads((out / "summary.json").read_text())
    statistics = Statistics(HOUR, ("device",))
    evil = "<script>alert(1)</script>"
    statistics.observe(
        Observation(
            np.full(100, DAY_1), np.arange(100) % 2.0, np.ones(100), np.zeros(100),
            {"device": pa.array([evil] * 100)},
        )
    )  # fmt: skip
    page = render_report(summary, dict.fromkeys(summary["learners"], statistics), [])
    assert evil not in page
    assert "&lt;script&gt;" in page
