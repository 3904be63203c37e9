"""Memory of the in-process runner over many bundles, of which a live run has hundreds a minute."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDLESS = """\
import os, sys
import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration
from headrace.pipelines.beam.settings import set_for_a_run

BUNDLES = int(sys.argv[1])

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

class Numbers(RestrictionProvider):
    def initial_restriction(self, element): return OffsetRange(0, 1 << 40)
    def create_tracker(self, restriction): return OffsetRestrictionTracker(restriction)
    def restriction_size(self, element, restriction): return 1
    def split(self, element, restriction): yield restriction

@beam.DoFn.unbounded_per_element()
class Read(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Numbers())):
        at = tracker.current_restriction().start
        if at in (BUNDLES // 4, BUNDLES):
            print(resident_mb(), flush=True)
        tracker.try_claim(1 << 40 if at == BUNDLES else at)
        if at < BUNDLES:
            yield at
            tracker.defer_remainder(Duration(0))

with set_for_a_run():
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    pipeline | beam.Create([0], reshuffle=False) | beam.ParDo(Read()) | beam.Map(abs)
    pipeline.run().wait_until_finish()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("bundles", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_bundles_leave_nothing_in_memory(tmp_path, bundles):
    """By itself the runner keeps 25 kB of each."""
    path = tmp_path / "endless.py"
    path.write_text(ENDLESS)
    run = [sys.executable, str(path), str(bundles)]
    said = subprocess.run(run, stdout=subprocess.PIPE, check=True, text=True).stdout
    first, last = map(float, said.split())
    assert last - first < 5 + 0.001 * bundles
