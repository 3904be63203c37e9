"""The command line ``headrace``.

No large package is imported before a command needs it, so that help is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

DONE, FAILED, MISUSED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 done, 1 failed, 2 bad usage or configuration, or a folder that must not be touched,
    3 done, but more than a fifth of a stream is invalid, or a model is not published.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    beam_options: list[str] = []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, beam_options = arguments[:cut], arguments[cut + 1 :]
    options = _parser().parse_args(arguments)
    if beam_options and options.command not in ("replay", "stream"):
        print(f"headrace {options.command}: takes no Beam options after --", file=sys.stderr)
        return MISUSED
    from headrace.pipelines.run.runner import IN_PROCESS

    foreign = [o for o in beam_options if o.startswith("--runner") and o != IN_PROCESS]
    if foreign and not getattr(options, "runner", None):
        print(
            f"headrace {options.command}: runs with {IN_PROCESS} (got {foreign[0]})",
            file=sys.stderr,
        )
        return MISUSED
    options.beam_options = beam_options
    # Arrow's allocator reads this when it is loaded. Returning memory without delay costs no
    # measurable time and lowers the peak of a replay by a tenth.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "0")
    from headrace.schemas.errors import ArgumentError, ConfigError, FolderError, HeadraceError

    try:
        from headrace.pipelines.app import commands

        code: int = getattr(commands, options.command.replace("-", "_"))(options)
        return code
    except (ArgumentError, ConfigError, FolderError) as error:
        _warn(f"headrace: {error}")
        return MISUSED
    except HeadraceError as error:
        _warn(f"headrace: {error}")
        return FAILED
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C changes nothing
        how = (
            "to go on from the last checkpoint" if options.command == "stream"
            else "to start over, or with --resume to continue"
        )  # fmt: skip
        print(f"headrace: interrupted; run the same command again {how}", file=sys.stderr)
        sys.stderr.flush()
        # Everything is cleaned up. A thread of Beam may still run, and an ordinary exit would
        # wait for it forever.
        os._exit(FAILED)


def _warn(text: str, lines: bool = False) -> None:
    from headrace.pipelines.app.shown import as_shown

    print(as_shown(text, lines), file=sys.stderr)


def run() -> NoReturn:
    """Run a command as a process of its own, and end it with the exit code.

    At once: everything is on disk by then, and an ordinary exit of so many libraries takes a
    second, in which a stopped run would seem to hang.
    """
    try:
        code = main()
    except BrokenPipeError:  # nobody reads any more what a command prints
        code = FAILED
    except Exception:  # a defect; what it says may be of the log
        _warn(traceback.format_exc().rstrip(), lines=True)
        code = FAILED
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more
            stream.flush()
    os._exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Join impressions and actions into labelled samples, and learn from them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    replay = commands.add_parser(
        "replay",
        help="replay logs into samples, a model and a report",
        description="Replay logs into samples, a model and a report. "
        "Options for Beam may follow after --.",
    )
    replay.add_argument("config", type=Path, metavar="CONFIG.toml")
    replay.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to, or a URI such as s3://..."
    )
    replay.add_argument(
        "--work", type=Path, metavar="DIR",
        help="with a URI: the folder to work in until the result is uploaded",
    )  # fmt: skip
    replay.add_argument("--shards", type=_positive, metavar="N", help="instead of join.shards")
    replay.add_argument(
        "--batch-rows", type=_positive, metavar="N", help="instead of replay.batch_rows"
    )
    replay.add_argument(
        "--resume", action="store_true",
        help="continue an unfinished run from its last checkpoint",
    )  # fmt: skip
    replay.add_argument(
        "--continue", type=Path, dest="continue_from", metavar="DIR",
        help="go on from the finished run in this folder: read what is new, write what is new",
    )  # fmt: skip
    replay.add_argument(
        "--allow-invalid", action="store_true",
        help="exit with 0 even if more than a fifth of a stream is invalid",
    )  # fmt: skip
    replay.add_argument("--quiet", action="store_true", help="no progress and no closing table")
    _add_metrics(replay)

    stream = commands.add_parser(
        "stream",
        help="join and learn topics as they grow, until stopped",
        description="Read topics of Kafka as they grow; write samples, models and dead letters "
        "until stopped by Ctrl-C or SIGTERM. Run again it goes on where it stood. "
        "Options for Beam may follow after --.",
    )
    stream.add_argument("config", type=Path, metavar="CONFIG.toml")
    stream.add_argument(
        "--out", required=True, metavar="DIR",
        help="folder to write to; with --runner also a URI such as s3://...",
    )  # fmt: skip
    stream.add_argument(
        "--runner", choices=("prism", "flink", "dataflow"),
        help="run on a distributed runner, with its options after -- (in this process)",
    )  # fmt: skip
    stream.add_argument(
        "--until-end", action="store_true",
        help="end where the topics ended when it was started",
    )  # fmt: skip
    stream.add_argument(
        "--restarts", type=_positive, default=0, metavar="N",
        help="run in a process of its own, and start it again up to N times if it fails (0)",
    )  # fmt: skip
    stream.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_metrics(stream)

    status = commands.add_parser(
        "status",
        help="show where headrace stream stands",
        description="Show where headrace stream stands: positions, lag, the source that holds the "
        "clock back, the last checkpoint. Exit with 1 if it failed or was killed.",
    )
    status.add_argument("folder", type=Path, metavar="DIR", help="the --out of the run")
    status.add_argument("--json", action="store_true", help="as JSON")

    watch = commands.add_parser(
        "watch",
        help="watch a run: a table in the terminal, or a page in the browser",
        description="Watch a live run or a replay until it ends: a table in the terminal, lines "
        "elsewhere, or with --port a page. Exit with 1 if it failed or was killed.",
    )
    watch.add_argument("folder", type=Path, metavar="DIR", help="the --out of the run")
    watch.add_argument(
        "--port", type=_positive, metavar="PORT", help="serve a page on this port, until Ctrl-C"
    )
    watch.add_argument(
        "--host", default="127.0.0.1", metavar="HOST",
        help="the address to serve it on (127.0.0.1: for this machine alone)",
    )  # fmt: skip
    watch.add_argument(
        "--once", action="store_true", help="print where it stands, and do not wait for its end"
    )

    backfill = commands.add_parser(
        "backfill",
        help="write the statistics of a run for Prometheus, in event time",
        description="Write the statistics by window of a replay, or of a run that goes on, as "
        "OpenMetrics in event time, and as blocks of Prometheus if promtool is there.",
    )
    backfill.add_argument("folder", type=Path, metavar="DIR", help="the --out of the run")
    backfill.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="a new folder to write to (DIR-prometheus, beside DIR)",
    )  # fmt: skip

    _add_quarantine(commands)

    validate = commands.add_parser(
        "validate",
        help="check a configuration against the head of its files, and show what it would do",
        description="Check a configuration against the head of its files.",
    )
    validate.add_argument("config", type=Path, metavar="CONFIG.toml")

    verify = commands.add_parser(
        "verify",
        help="compare every file of a result with its seal",
        description="Compare every file of a result with seal.json: size, checksum, rows.",
    )
    verify.add_argument("folder", metavar="DIR", help="the --out of a replay")

    windows = commands.add_parser(
        "windows",
        help="show what each window would catch and cost, and recommend one",
        description="Join the logs with a long window, show how long after impressions actions "
        "come, what each window would catch and cost, and recommend one.",
    )
    windows.add_argument("config", type=Path, metavar="CONFIG.toml")
    windows.add_argument(
        "--longest", type=_duration, metavar="DURATION",
        help="the longest window to consider (ten times the longest configured)",
    )  # fmt: skip
    windows.add_argument(
        "--coverage", type=_share, default=0.95, metavar="SHARE",
        help="the part of the actions that the window should catch (0.95)",
    )  # fmt: skip
    windows.add_argument("--out", metavar="DIR", help="write windows.html and windows.json there")

    _add_models(commands)

    generate = commands.add_parser(
        "generate",
        help="generate a traffic log with known click probabilities, or live traffic",
        description="Generate impressions and clicks with known click probabilities, "
        "and a configuration to replay them with: a log, or messages of Kafka at a live pace.",
    )
    generate.add_argument("--out", metavar="DIR", help="needed unless --to-kafka is given")
    generate.add_argument(
        "--impressions", type=_positive, metavar="N", help="(200,000; of --to-kafka no end)"
    )
    generate.add_argument(
        "--rate", type=_positive, default=100, metavar="N", help="impressions a second (100)"
    )
    generate.add_argument("--seed", type=int, default=1, metavar="N")
    generate.add_argument(
        "--window", type=_duration, metavar="DURATION",
        help="clicks come within so much after their impression (10m)",
    )  # fmt: skip
    generate.add_argument(
        "--format", choices=("parquet", "text"),
        help="of a log (parquet); text: impressions as .csv.gz and clicks as .jsonl.zst, with "
        "broken lines",
    )  # fmt: skip
    generate.add_argument(
        "--clean", action="store_true",
        help="of a log: no duplicates, late, orphaned or broken records",
    )  # fmt: skip
    generate.add_argument(
        "--examination", action="store_true",
        help="of a log: pages of five, whose lower positions are examined less, and where better "
        "impressions are higher, but on a tenth of the pages",
    )  # fmt: skip
    generate.add_argument(
        "--interactions", action="store_true",
        help="of a log: pairs of values have effects, such as of a site and an ad",
    )  # fmt: skip
    generate.add_argument(
        "--delays-differ", action="store_true",
        help="of a log: clicks take longer on some devices",
    )  # fmt: skip
    generate.add_argument(
        "--span", type=_duration, metavar="DURATION",
        help="of a log, instead of --impressions: how much event time it has, such as 3d; rates "
        "then change with the hour of the day",
    )  # fmt: skip
    generate.add_argument(
        "--faults", nargs="+", metavar="KIND:BEGIN[:LENGTH]",
        help="what goes wrong and when, such as stop:2d:2h: stop, lag, standstill, "
        "doubled-new-ids, doubled-same-key, bot, flip, region, devices-swapped, os-null, "
        "price-cents, ids-new; or what changes in healthy traffic: night, weekend, small-slice, "
        "trend, step. Live traffic also has faults without a time: disorder, duplicates, late, "
        "orphans, broken, doubled-clicks, dead-clicks, skew, idle, burst",
    )  # fmt: skip
    kafka = generate.add_argument_group("live traffic")
    kafka.add_argument(
        "--to-kafka", metavar="SERVERS", help="produce to topics, which are created if missing"
    )
    kafka.add_argument("--prefix", metavar="TEXT", help="before the topics impressions and clicks")
    kafka.add_argument("--partitions", type=_positive, metavar="N", help="of each topic (4)")
    kafka.add_argument(
        "--speed", type=_speed, metavar="X",
        help="how much faster event time goes than the clock (1); max does not wait",
    )  # fmt: skip
    kafka.add_argument(
        "--start", type=_moment, metavar="TIME", help="the first event time, ISO 8601 (now)"
    )
    return parser


def _add_metrics(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--metrics-port", type=_positive, metavar="PORT",
        help="serve metrics for Prometheus on this port while it runs",
    )  # fmt: skip
    command.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="the address to serve them on (127.0.0.1: for this machine alone)",
    )


def _add_quarantine(commands: Any) -> None:
    """Add the commands about what guards held back."""
    quarantine = commands.add_parser(
        "quarantine",
        help="show what guards held back from learning, and decide about it",
        description="Show what guards held back from learning, have models learn it with labels "
        "that were joined again, or note that it is discarded, as it is by default.",
    )
    actions = quarantine.add_subparsers(dest="action", required=True, metavar="ACTION")
    of_run = "the --out of a replay, or of a run that goes on"
    numbers = "numbers of disconnects, as shown (all that nothing is decided about)"
    show = actions.add_parser(
        "show",
        help="show the disconnects",
        description="Show each disconnect: from when until when, how many rows were held back, "
        "why, and what was decided.",
    )
    show.add_argument("folder", metavar="DIR", help=of_run)
    show.add_argument("--json", action="store_true", help="as JSON")
    release = actions.add_parser(
        "release",
        help="have models learn it, with the labels of another join",
        description="Have the newest models of a run learn what was held back, with the labels "
        "that another run has of the repaired log, and write them to another folder.",
    )
    release.add_argument("folder", metavar="DIR", help=of_run)
    release.add_argument("numbers", type=_positive, nargs="*", metavar="N", help=numbers)
    release.add_argument(
        "--joined-again", required=True, metavar="NEW",
        help="the --out of another run, of the same configuration over the repaired log",
    )  # fmt: skip
    release.add_argument(
        "--out", required=True, metavar="MODELS", help="a new folder for the models"
    )
    discard = actions.add_parser(
        "discard",
        help="note that it is discarded",
        description="Note that what was held back is discarded, as it is by default.",
    )
    discard.add_argument("folder", metavar="DIR", help=of_run)
    discard.add_argument("numbers", type=_positive, nargs="*", metavar="N", help=numbers)


def _add_models(commands: Any) -> None:
    """Add the commands that use a model outside of a run."""
    model = "folder of a model, such as result/model/click, or a URI"
    formats = ("parquet", "csv", "jsonl")

    score = commands.add_parser(
        "score",
        help="predict the rows of files by a model",
        description="Predict the rows of files, read as the log was that the model was learned "
        "from, and write them with p, margin and, if the learner tells it, uncertainty.",
    )
    score.add_argument("model", metavar="MODEL", help=model)
    score.add_argument("rows", metavar="ROWS", help="a file, a glob or a URI")
    score.add_argument(
        "--out", required=True, metavar="FILE",
        help="file to write: .parquet, .csv or .jsonl, of text also with .gz or .zst",
    )  # fmt: skip
    score.add_argument(
        "--explain", type=_positive, nargs="?", const=5, default=0, metavar="N",
        help="add a column why: the N features that move the margin most (5)",
    )  # fmt: skip
    score.add_argument("--format", choices=formats, help="of ROWS, if names do not show it")
    score.add_argument(
        "--allow-invalid", action="store_true",
        help="exit with 0 even if more than a fifth of the rows is invalid",
    )  # fmt: skip
    _add_key_options(score)

    rollback = commands.add_parser(
        "rollback",
        help="withdraw the newest snapshot of a model",
        description="Withdraw the newest snapshot of a learner, or all that are newer than one: "
        "they are renamed, and scorers go back to the newest that is left.",
    )
    rollback.add_argument("folder", metavar="FOLDER", help="such as live/model/click")
    rollback.add_argument("--to", metavar="SNAPSHOT", help="the snapshot to go back to")
    _add_key_options(rollback)

    weights = commands.add_parser(
        "weights",
        help="show the largest weights of a model, with names",
        description="Show the largest weights of a model. A model has hashes in place of names: "
        "these come from the samples of its result, or from other rows.",
    )
    weights.add_argument("model", metavar="MODEL", help=model)
    weights.add_argument("--top", type=_positive, default=50, metavar="N", help="how many (50)")
    weights.add_argument("--like", metavar="TEXT", default="", help="of names that have this text")
    weights.add_argument(
        "--values", metavar="ROWS",
        help="a file, a glob or a URI of rows from which names are taken",
    )  # fmt: skip
    weights.add_argument("--format", choices=formats, help="of ROWS, if names do not show it")
    weights.add_argument("--json", action="store_true", help="as JSON")
    _add_key_options(weights)

    explain = commands.add_parser(
        "explain",
        help="show what became of a key in a run, or what each feature adds to a prediction",
        description="Show what became of each record of a key in a run, and why; or what each "
        "feature adds to the prediction of a row.",
    )
    explain.add_argument(
        "folder", metavar="DIR|MODEL",
        help="the --out of a run; or the folder of a model, such as result/model/click, or a URI",
    )  # fmt: skip
    explain.add_argument(
        "what", metavar="KEY|ROW", nargs="*",
        help="of a run: a value for each key column; of a model: a JSON object, or FILE:N, "
        "counted from 0",
    )  # fmt: skip
    explain.add_argument("--format", choices=formats, help="of FILE, if its name does not show it")
    explain.add_argument("--json", action="store_true", help="as JSON")
    _add_key_options(explain)
    of_run = explain.add_argument_group("of a run")
    of_run.add_argument("--stream", metavar="NAME", help="in place of KEY, the stream of a record")
    of_run.add_argument("--source", metavar="FILE", help="its file or partition")
    of_run.add_argument("--offset", type=_whole, metavar="N", help="its number, as in dead letters")
    of_run.add_argument("--row", type=_whole, default=0, metavar="N", help="and its row there (0)")
    of_run.add_argument(
        "--config", metavar="CONFIG.toml", help="the run's configuration, if it was moved"
    )

    import_vw = commands.add_parser(
        "import-vw",
        help="make a log of text of Vowpal Wabbit",
        description="Write a log and its configuration from lines of Vowpal Wabbit.",
    )
    import_vw.add_argument("file", metavar="FILE", help="text of Vowpal Wabbit")
    import_vw.add_argument("--out", metavar="DIR", required=True, help="the folder to write")

    export = commands.add_parser(
        "export",
        help="write rows for Vowpal Wabbit, or a model for ONNX or as a small one",
        description="Write rows as text of Vowpal Wabbit, with the features that a model learns "
        "of them; or a linear model as a graph of ONNX; or the weights of a model, rounded to "
        "16 bits, as a model that only predicts.",
    )
    export.add_argument("model", metavar="MODEL", help=model)
    what = export.add_mutually_exclusive_group(required=True)
    what.add_argument("--vw", metavar="FILE", help="text of Vowpal Wabbit; may end in .gz or .zst")
    what.add_argument("--onnx", metavar="FILE", help="graph of ONNX, of ftrl and sgd")
    what.add_argument("--small", metavar="DIR", help="small model, of ftrl, sgd and probit")
    export.add_argument(
        "--values", metavar="ROWS",
        help="with --vw: a file, a glob or a URI of rows (the samples of the model's result)",
    )  # fmt: skip
    export.add_argument("--format", choices=formats, help="of ROWS, if names do not show it")
    _add_key_options(export)


def _add_key_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `headrace.pipelines.app.modelkeys` reads."""
    key = parser.add_mutually_exclusive_group()
    refuse = "refuse a model that is not signed with state.key, which is in"
    key.add_argument("--key-env", type=_named, metavar="NAME", help=f"{refuse} this variable")
    key.add_argument("--key-file", type=_named, metavar="FILE", help=f"{refuse} this file")


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a name (got none)")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more (got {text})")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or more (got {text})")
    return int(text)


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share in (0, 1] (got {text})")
    return share


def _speed(text: str) -> float:
    if text == "max":
        return math.inf
    speed = float(text)
    if not 0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, or max (got {text})")
    return speed


def _moment(text: str) -> int:
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _duration(text: str) -> int:
    from headrace.schemas.config.durations import parse_duration

    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if duration == 0:
        raise argparse.ArgumentTypeError("expected a duration greater than zero")
    return duration
