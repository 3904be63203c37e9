"""The commands of ``headrace``; see `headrace.pipelines.app.cli` for their options."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headrace.monitoring.ending import what_stayed_open
from headrace.pipelines.app import api
from headrace.pipelines.app.metrics import Metrics
from headrace.pipelines.app.modelkeys import given_key
from headrace.pipelines.app.resolving import resolve
from headrace.pipelines.app.shown import say, warn
from headrace.pipelines.jobs.past import read_past
from headrace.pipelines.run.disk import write_text, writing
from headrace.pipelines.run.interrupts import Stopping, stopped_by_signals
from headrace.pipelines.run.remote import Address, place_of
from headrace.pipelines.sources.inputs import Inputs
from headrace.schemas.config.durations import format_duration
from headrace.schemas.config.models import Config
from headrace.schemas.errors import ArgumentError, FolderError


def _load(options: argparse.Namespace) -> Inputs:
    config = api.load_config(options.config)
    changes: dict[str, Any] = {}
    if getattr(options, "shards", None):
        changes["join"] = config.join.model_copy(update={"shards": options.shards})
    if getattr(options, "batch_rows", None):
        changes["replay"] = config.replay.model_copy(update={"batch_rows": options.batch_rows})
    config = config.model_copy(update=changes)
    continued = getattr(options, "continue_from", None)
    return resolve(config, past=None if continued is None else read_past(continued, config))


def replay(options: argparse.Namespace) -> int:
    """Replay logs, showing progress and a closing table unless ``--quiet``."""
    out = place_of(options.out)
    inputs = _load(options)
    quiet_beam()
    from headrace.pipelines.app.closing import closing_table
    from headrace.pipelines.app.display import watching

    def announce(line: str) -> None:
        if not options.quiet:
            warn(f"headrace: {line}")

    with watching(inputs, quiet=options.quiet) as watch:
        result = api.replay_inputs(
            inputs, out, options.work, options.resume, watch, announce, options.beam_options,
            Metrics(options.metrics_port, options.metrics_host),
        )  # fmt: skip
    summary = result.summary.model_dump(mode="json")
    refused = [] if options.allow_invalid else result.mostly_invalid
    for sentence in refused:
        # First, because a table of outcomes below would hide it.
        warn(f"headrace: {sentence}; --allow-invalid accepts it")
    if not options.quiet:
        closing_table(summary, result.findings, out)
    elif not result.summary.samples.rows and (opened := what_stayed_open(summary)):
        # Silent success with an empty result would mislead.
        warn(f"headrace: no sample has left: {opened}")
    held = [name for name, of in summary["learners"].items()
            if of["gate"] is not None and not of["gate"]["accepted"]]  # fmt: skip
    for name in held if options.quiet else []:
        reasons = "; ".join(summary["learners"][name]["gate"]["reasons"])
        warn(f"headrace: learner {name}: its model is not published: {reasons}")
    return 3 if refused or held else 0


def stream(options: argparse.Namespace) -> int:
    """Join and learn topics until a signal comes; a second Ctrl-C does not wait."""
    from headrace.pipelines.app import live
    from headrace.pipelines.app.display import announcing, status_lines

    if options.runner is not None and options.metrics_port is not None:
        fact = f"is not served with --runner {options.runner}"
        raise ArgumentError("--metrics-port", options.metrics_port, fact, "leave it out")
    if options.restarts:
        return _supervised(options)
    config = api.load_config(options.config)
    quiet_beam()
    with announcing(options.quiet) as announce, stopped_by_signals() as stopping:
        topics = sorted(set(config.topics.values()))
        announce(f"reading {', '.join(topics)}; Ctrl-C stops" if topics else "starting")
        if options.runner is not None:
            return _stream_on(options, config, stopping, announce)
        stood = live.stream(
            config, Path(options.out), until_end=options.until_end, stopping=stopping,
            announce=announce, watch=status_lines(announce), beam_options=options.beam_options,
            metrics_port=options.metrics_port, metrics_host=options.metrics_host,
        )  # fmt: skip
        announce(
            f"ended after {stood.events:,} events" if stood.ended else
            f"stopped after {stood.events:,} events; the same command goes on from here"
        )  # fmt: skip
    return 0


def _stream_on(
    options: argparse.Namespace,
    config: Config,
    stopping: Stopping,
    announce: Callable[[str], None],
) -> int:
    from headrace.pipelines.app import live

    try:
        ended = live.stream_on(
            options.runner, config, options.out, until_end=options.until_end, stopping=stopping,
            announce=announce, beam_options=options.beam_options,
        )  # fmt: skip
    except ArgumentError as error:
        warn(f"headrace stream: {error}")
        return 2
    if ended:
        announce("ended")
    elif options.runner == "prism":
        announce("stopped; Prism keeps no state, so the same command begins anew")
    else:
        announce(f"submitted; the job goes on, and {options.runner} keeps its state")
    return 0


def _supervised(options: argparse.Namespace) -> int:
    from headrace.pipelines.app.display import announcing
    from headrace.pipelines.run.supervising import supervise

    command = [sys.executable, "-m", "headrace", "stream", str(options.config)]
    command += ["--out", str(options.out)]
    command += ["--until-end"] * options.until_end + ["--quiet"] * options.quiet
    if options.runner is not None:
        command += ["--runner", options.runner]
    if options.metrics_port is not None:
        command += ["--metrics-port", str(options.metrics_port)]
        command += ["--metrics-host", options.metrics_host]
    if options.beam_options:
        command += ["--", *options.beam_options]
    with announcing(options.quiet) as announce:
        # What is wrong with usage or configuration will be wrong again.
        return supervise(command, options.restarts, (0, 2), announce)


def status(options: argparse.Namespace) -> int:
    """Print where a run stands; return 1 if it is not running, nor has ended or been stopped."""
    from headrace.pipelines.jobs.status import read_status

    found = read_status(options.folder)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        from headrace.pipelines.app.display import status_table

        status_table(found)
    return 0 if found["state"] in ("running", "stopped", "ended") else 1


def watch(options: argparse.Namespace) -> int:
    """Show where a run stands until it ends, or serve a page of it until Ctrl-C.

    Return 1 if it has failed or was killed.
    """
    from headrace.pipelines.jobs.watching import FAILED, KILLED, RunReader

    if options.once and options.port is not None:
        raise ArgumentError("--once", "with --port", "has no effect", "leave one out")
    reader = RunReader(options.folder)
    try:
        if options.port is not None:
            from headrace.pipelines.app.livepage import serve

            serve(reader, str(options.folder), options.port, options.host)
            return 0
        from headrace.pipelines.app.watching import watch as watch_run

        seen = watch_run(reader, options.once)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0  # nobody looks any more; the run goes on
    return 1 if seen.state in (FAILED, KILLED) else 0


def backfill(options: argparse.Namespace) -> int:
    """Write the statistics of a run for Prometheus, and print the commands that show them."""
    from headrace.pipelines.app.backfilling import backfill as run_backfill

    done = run_backfill(options.folder, options.out)
    for line in done.lines():
        say(line)
    return 0


def quarantine(options: argparse.Namespace) -> int:
    """Show what guards held back, release it or note that it is discarded."""
    from headrace.pipelines.jobs.quarantine import discard_quarantine, load_quarantine

    if options.action == "release":
        from headrace.pipelines.jobs.releasing import release_quarantine

        released = release_quarantine(
            options.folder, options.numbers, joined_again=options.joined_again, models=options.out
        )
        lines = list(released.lines())
    elif options.action == "discard":
        numbers = discard_quarantine(options.folder, options.numbers)
        named = ", ".join(map(str, numbers)) or "none that was not decided about before"
        lines = [f"discarded: {named}"]
    else:
        held = load_quarantine(options.folder).held
        if options.json:
            print(json.dumps([of.as_json() for of in held], indent=1))
            return 0
        lines = [str(of) for of in held] or ["no guard has disconnected learning"]
    for line in lines:
        say(line)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Compare every file of a result with its seal; return 1 if one differs."""
    folder = place_of(options.folder)
    verified = api.verify(folder)
    for problem in verified.problems:
        say(f"{folder}: {problem}")
    if verified.problems:
        return 1
    say(f"{verified.files:,} files, {verified.rows:,} rows: good")
    return 0


def quiet_beam() -> None:
    """Silence Beam's log: it reports missing cloud clients, and errors that it also raises."""
    logging.getLogger().setLevel(logging.CRITICAL)


def validate(options: argparse.Namespace) -> int:
    """Check a configuration and print what a replay would do."""
    from headrace.pipelines.app.display import describe

    inputs = _load(options)
    quiet_beam()
    describe(inputs, api.check_inputs(inputs))
    return 0


def windows(options: argparse.Namespace) -> int:
    """Print what each window would catch and cost, and write the page if ``--out`` is given."""
    from headrace.monitoring.report.page import render_windows
    from headrace.pipelines.app.display import counting, windows_page, windows_table
    from headrace.pipelines.jobs.windows import as_json

    out = None if options.out is None else place_of(options.out)
    if out is not None:
        api.check_folder(out, "windows.json", "windows.html")
    with counting() as watch:
        measured = api.study_windows(
            options.config, longest=options.longest, coverage=options.coverage, watch=watch
        )
    pages = windows_page(measured, options.coverage)
    windows_table(pages)
    if out is not None:
        text = json.dumps(as_json(measured), indent=2) + "\n"
        with api.written_to(out) as folder, writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "windows.json", text)
            write_text(folder / "windows.html", render_windows(pages))
        say(f"page      {out / 'windows.html'}")
    return 0


def score(options: argparse.Namespace) -> int:
    """Predict the rows of files; return 3 if more than a fifth of them is invalid."""
    from headrace.pipelines.app.scoring import score as score_rows

    scored = score_rows(
        options.model, options.rows, options.out, explain=options.explain, form=options.format,
        key=given_key(options),
    )  # fmt: skip
    for sentence in scored.findings:
        warn(f"headrace: {sentence}")
    say(f"{scored.scored:,} of {scored.rows:,} rows scored: {scored.out}")
    return 3 if scored.mostly_invalid and not options.allow_invalid else 0


def weights(options: argparse.Namespace) -> int:
    """Print the largest weights of a model."""
    from headrace.pipelines.app.modeltables import weights_table
    from headrace.pipelines.jobs.prediction import load_model
    from headrace.pipelines.jobs.weighing import rows_of, weigh

    place = place_of(options.model)
    model = load_model(place, key=given_key(options))
    values = options.values or _samples_of(place)
    rows = () if values is None else rows_of(model, values, options.format)
    found = weigh(model, rows, options.top, options.like)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        weights_table(found, values)
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Withdraw snapshots of a learner."""
    from headrace.pipelines.jobs.rollback import roll_back

    now, withdrawn = roll_back(Path(options.folder), options.to, given_key(options))
    say(f"{options.folder}: {now} is the newest; withdrawn: {', '.join(withdrawn) or 'none'}")
    return 0


def import_vw(options: argparse.Namespace) -> int:
    """Make a log of text of Vowpal Wabbit."""
    from headrace.pipelines.app.importing import import_vowpal

    found = import_vowpal(options.file, options.out)
    say(
        f"{found.rows:,} of {found.lines:,} lines, {found.positives:,} positive\n"
        f"next: headrace replay {options.out}/headrace.toml --out {options.out}/out"
    )
    return 0


def export(options: argparse.Namespace) -> int:
    """Write rows for Vowpal Wabbit, or a model for ONNX or as a small one."""
    from headrace.pipelines.app.exporting import export_onnx, export_small, export_vowpal
    from headrace.pipelines.jobs.prediction import load_model

    place = place_of(options.model)
    model = load_model(place, key=given_key(options))
    if options.onnx is not None:
        export_onnx(model, options.onnx)
        say(f"{options.onnx}: learner {model.name} with {model.learner.bits} bits")
        return 0
    if options.small is not None:
        manifest = export_small(model, options.small)
        count, fraction = manifest["figures"]["coordinates"], manifest["small"]["fraction_bits"]
        say(f"{options.small}: learner {model.name}, {count:,} weights in steps of 2^{-fraction}")
        return 0
    values = options.values or _samples_of(place)
    if values is None:
        hint = "name them with --values"
        raise FolderError(str(place), "has no samples beside it", hint)
    written = export_vowpal(model, values, options.vw, form=options.format)
    for sentence in written.findings:
        warn(f"headrace: {sentence}")
    say(f"{written.lines:,} of {written.rows:,} rows written: {options.vw}")
    return 0


def _samples_of(place: Path | Address) -> str | None:
    """Return the samples of the result that has a model, if it is of this machine."""
    from headrace.learners.snapshot import model_folder
    from headrace.pipelines.jobs.weighing import samples_beside

    return samples_beside(model_folder(place)) if isinstance(place, Path) else None


def explain(options: argparse.Namespace) -> int:
    """Print what became of a key, or what each feature adds to the prediction of a row."""
    from headrace.pipelines.app.keyhistories import is_run

    if is_run(options.folder):
        return _explain_key(options)
    if len(options.what) != 1:
        got = " ".join(options.what) or "none"
        hint = "name the --out of a run, or the folder of a model"
        warn(
            f"headrace explain: {options.folder} is no run, and of a model one row is explained "
            f"(got {got}); {hint}"
        )
        return 2
    return _explain_row(options, options.what[0])


def _explain_key(options: argparse.Namespace) -> int:
    from headrace.pipelines.app.keyhistories import Record, explain_key, history_lines

    if options.what[:1] and options.what[0].lstrip().startswith("{"):
        hint = "to explain a prediction name the folder of a model, such as model/click in it"
        raise FolderError(options.folder, "is a result", hint)
    where = [options.stream, options.source, options.offset]
    record = None if None in where else Record(*where)
    if (record is None) != bool(options.what) or (options.what and where != [None] * 3):
        fact = "expected the values of a key, or --stream, --source and --offset of a record"
        warn(f"headrace explain: {fact}")
        return 2
    if record is not None:
        record = record._replace(row=options.row)
    history = explain_key(options.folder, tuple(options.what), options.config, record)
    if options.json:
        print(json.dumps(history.as_json(), indent=1))
    else:
        for line in history_lines(history):
            say(line)
    return 0 if history.found else 1


def _explain_row(options: argparse.Namespace, what: str) -> int:
    from headrace.pipelines.app.modeltables import explanation_table
    from headrace.pipelines.jobs.explaining import explain as explain_row
    from headrace.pipelines.jobs.prediction import load_model
    from headrace.pipelines.sources.rowfiles import row_at, row_of_json

    model = load_model(place_of(options.folder), key=given_key(options))
    name, _, number = what.rpartition(":")
    if what.lstrip().startswith("{"):
        row = row_of_json(what, model.needed)
    elif name and number.isdecimal():
        row = row_at(name, int(number), options.format, model.needed)
    else:
        fact = f"expected a row, a JSON object or FILE:N (got {what!r})"
        warn(f"headrace explain: {fact}")
        return 2
    for unfit in row.unfit:
        warn(f"headrace: {unfit}, and counts as null")
    found = explain_row(model, row.batch)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        explanation_table(found)
    return 0


def generate(options: argparse.Namespace) -> int:
    """Generate a traffic log or live traffic, and print the command that replays it."""
    wrong = _wrong_options(options)
    if wrong is not None:
        warn(f"headrace generate: {wrong}")
        return 2
    try:
        return _generate_log(options) if options.to_kafka is None else _generate_live(options)
    except ArgumentError as error:
        warn(f"headrace generate: {error}")
        return 2


_OF_LOGS = ("clean", "format", "examination", "interactions", "delays_differ", "span")
_OF_TOPICS = ("partitions", "prefix", "speed", "start")


def _wrong_options(options: argparse.Namespace) -> str | None:
    """Return which option is missing, or does not fit the others."""
    if options.to_kafka is None and options.out is None:
        return "--out DIR is missing; or produce messages with --to-kafka SERVERS"
    foreign = _OF_TOPICS if options.to_kafka is None else _OF_LOGS
    for name in foreign:
        if getattr(options, name) not in (None, False):
            where = "without --to-kafka" if options.to_kafka is None else "with --to-kafka"
            return f"--{name.replace('_', '-')} has no effect {where}; leave it out"
    if options.span is not None and options.impressions is not None:
        return "--span and --impressions both say how long the log is; leave one out"
    return None


def _generate_log(options: argparse.Namespace) -> int:
    out = place_of(options.out)
    written = api.generate(
        out, rate=options.rate, seed=options.seed, clean=options.clean,
        form=options.format or "parquet", examination=options.examination,
        interactions=options.interactions, delays_differ=options.delays_differ,
        **_given(options, "impressions", "window", "span", "faults"),
    )  # fmt: skip
    say(
        f"{written.impressions:,} impressions and {written.clicks:,} clicks over "
        f"{format_duration(written.duration // 1_000_000 * 1_000_000)} of event time"
    )
    config, result = out / "headrace.toml", out / "out"
    if isinstance(out, Path):
        say(f"next: headrace replay {config} --out {result}")
    else:
        say(f"next: fetch {config}, then headrace replay headrace.toml --out out")
    return 0


def _generate_live(options: argparse.Namespace) -> int:
    from headrace.pipelines.app.producing import generate_to_kafka

    with stopped_by_signals() as stop:
        produced = generate_to_kafka(
            options.to_kafka, rate=options.rate, seed=options.seed, stop=stop,
            **_given(
                options, "impressions", "window", "faults", "partitions", "prefix", "speed",
                "start", "out",
            ),
        )  # fmt: skip
    before = "" if produced.complete else ", then it was stopped"
    say(f"{produced.impressions:,} impressions and {produced.clicks:,} clicks sent{before}")
    if options.out is not None:
        config, result = Path(options.out) / "headrace.toml", Path(options.out) / "out"
        say(f"next: headrace stream {config} --out {result}")
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given; of the others the functions have defaults."""
    found = {name: getattr(options, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
