"""Logs that grow, made of files: records come in small portions, or are held back for a while."""

from __future__ import annotations

import time

from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.jobs import stream as job
from headrace.pipelines.run.liveplace import opened_live


class GrowingFile:
    """A file of which records come in portions; none comes where the log is held back."""

    def __init__(self, log, random, pauses):
        self.log, self.random, self.pauses = log, random, pauses
        self.number, self.stream, self.name = log.number, log.stream, log.name

    def chunks(self, rows, skip=0):
        # What has been returned is there for ever, so no portion goes beyond a pause.
        portion = 1 if self.pauses else self.random.choice((1, 7, 40))
        for chunk in self.log.chunks(portion, skip):
            if chunk.end <= skip:
                continue
            while self.held_back(chunk.begin):
                yield None
            while self.random.random() < 0.3:
                yield None
            yield chunk

    def held_back(self, position):
        """Return whether the records from here on come only later."""
        return any(pause.number == self.number and pause.holds(position) for pause in self.pauses)


class Pause:
    """From its position on a log is silent, for a time since somebody first waited there."""

    def __init__(self, number, position, seconds):
        self.number, self.position, self.seconds = number, position, seconds
        self.since = None

    def holds(self, position):
        if position < self.position:
            return False
        self.since = self.since or time.monotonic()
        return time.monotonic() < self.since + self.seconds


class GrowingFiles:
    """The files of a job as they grow, see ``headrace.pipelines.sources.source.Growing``."""

    def __init__(self, inputs, random, pauses=()):
        self.logs, self.random, self.pauses = inputs.logs, random, pauses
        self.partitions = [GrowingFile(log, random, pauses) for log in inputs.logs]

    def identity(self):
        return {log.name: [] for log in self.logs}

    def starts(self):
        return [log.start for log in self.logs]

    def ends(self, numbers):
        held = {pause.number: pause.position for pause in self.pauses
                if pause.since and time.monotonic() < pause.since + pause.seconds}  # fmt: skip
        return {number: held.get(number, 1 << 40) for number in numbers}

    def verify(self):
        return self.random.random() < 0.9


class Standing:
    """A file from which nothing comes any more after a number of records."""

    def __init__(self, log, records):
        self.log, self.records = log, records
        self.number, self.stream, self.name = log.number, log.stream, log.name

    def chunks(self, rows, skip=0):
        for chunk in self.log.chunks(500, skip):
            while chunk.end > self.records:
                yield None
            yield chunk


class StandingFiles(GrowingFiles):
    """Files of which it is known that more records wait."""

    def __init__(self, inputs, records):
        super().__init__(inputs, None)
        self.partitions = [Standing(log, records) for log in inputs.logs]

    def ends(self, numbers):
        return dict.fromkeys(numbers, 1000000)

    def verify(self):
        return True


def run_stream(config, out, stopping, random, pauses=()):
    """Run the live job of a configuration of files."""
    inputs = resolve(config)
    with opened_live(out) as place:
        return job.stream(inputs, GrowingFiles(inputs, random, pauses), place, stopping)
