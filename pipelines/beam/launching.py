"""Running the graph on a distributed runner: its options, its start, and why it failed."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState
from apache_beam.runners.worker import sdk_worker

from headrace.pipelines.run import prism
from headrace.pipelines.run.interrupts import Stopping
from headrace.schemas import errors
from headrace.schemas.errors import ArgumentError, HeadraceError, RunnerError

_LOOK_S = 0.25


@dataclass(frozen=True)
class Runner:
    """A distributed runner, and how it keeps all data.

    Parameters
    ----------
    name
        As Beam names it.
    forced
        Options without which it loses data, or does not run this graph.
    refused
        Options that would lose data, by their names, and why.
    needed
        Names of options that it cannot run without.
    retried
        Whether it runs a bundle again that has failed, or returns to an older state.
    waits
        Whether the job lives with the process that has launched it.
    """

    name: str
    forced: tuple[str, ...]
    refused: dict[str, str]
    needed: tuple[str, ...] = ()
    retried: bool = True
    waits: bool = False


_REFUSED = {
    "runner": "write --runner before --",
    "save_main_session": "the steps are in modules that workers have",
    "no_streaming": "the graph has no end",
}

RUNNERS = {
    "prism": Runner(
        "PortableRunner",
        (
            "--environment_type=LOOPBACK",
            # Else it splits bundles, runs both parts at once on one key, and loses updates.
            "--experiments=prism_disable_sdf_split",
        ),
        {
            **_REFUSED,
            "job_endpoint": "headrace starts Prism itself",
            "environment_type": "workers are in this process, which notices lost state",
            "sdk_worker_parallelism": "workers are in this process, which notices lost state",
        },
        retried=False,
        waits=True,
    ),
    "flink": Runner(
        "FlinkRunner",
        (
            # Without it the job hangs, or ends as done with most blocks lost.
            "--finish_bundle_before_checkpointing",
        ),
        {
            **_REFUSED,
            "no_finish_bundle_before_checkpointing": "blocks would be lost",
        },
        needed=("flink_master", "parallelism", "checkpointing_interval"),
    ),
    "dataflow": Runner(
        "DataflowRunner",
        ("--enable_streaming_engine", "--experiments=use_runner_v2"),
        {**_REFUSED, "disable_runner_v2": "sources are splittable"},
        needed=("project", "region", "temp_location"),
    ),
}
"""The runners by the names of ``--runner``."""


def options_of(runner: str, given: Sequence[str], until_end: bool) -> list[str]:
    """Return the options of a runner.

    Parameters
    ----------
    runner
        One of `RUNNERS`.
    given
        More options, as a user gave them.
    until_end
        Whether the logs have an end.

    Raises
    ------
    ArgumentError
        If one of those given would lose data, or one is missing.
    """
    how = RUNNERS[runner]
    values = {name: value for name, _, value in (_parted(option) for option in given)}
    for name in values:
        if name in how.refused:
            fact = f"cannot be given with {runner}"
            raise ArgumentError(f"--{name}", values[name], fact, how.refused[name])
    for name in how.needed:
        if name not in values:
            raise ArgumentError(f"--{name}", None, f"is needed by {runner}", "write it after --")
    if runner == "flink":
        _check_flink(values, until_end)
    forced = ("--no_save_main_session", "--streaming", *how.forced)
    others = [option for option in given if option not in forced]
    return [f"--runner={how.name}", *forced, *others]


def idle_slots(options: Sequence[str], shards: int) -> str | None:
    """Return a sentence about slots that no shard is for; None if there are none."""
    slots = next((value for name, _, value in map(_parted, options) if name == "parallelism"), "")
    if not slots.isdecimal() or int(slots) <= shards:
        return None
    return f"join.shards = {shards} leaves {int(slots) - shards} of {slots} slots idle in the join"


def _check_flink(values: dict[str, str], until_end: bool) -> None:
    interval, idle = values["checkpointing_interval"], "shutdown_sources_after_idle_ms"
    if not interval.isdecimal() or int(interval) == 0:
        fact = "must be a number of milliseconds"
        hint = "without checkpoints a failure loses all state"
        raise ArgumentError("--checkpointing_interval", interval, fact, hint)
    if until_end and idle not in values:
        hint = f"write --{idle}=3000; without it Flink never ends"
        raise ArgumentError(f"--{idle}", None, "is needed with --until-end", hint)
    if not until_end and idle in values:
        hint = "leave it out"
        raise ArgumentError(f"--{idle}", values[idle], "would end the job at a silence", hint)


def _parted(option: str) -> tuple[str, str, str]:
    return option.lstrip("-").partition("=")


@contextlib.contextmanager
def started(runner: str, announce: Callable[[str], None]) -> Iterator[list[str]]:
    """Start what a runner needs on this machine, while the block runs; yield options for it."""
    if runner != "prism":
        yield []
        return
    program = prism.prism(beam.__version__, announce)
    _quiet_workers()
    with prism.running(program) as endpoint:
        yield [f"--job_endpoint={endpoint}"]


@functools.cache
def _quiet_workers() -> None:
    """Let workers of this process tell of errors through the runner alone, from now on.

    Their threads end at some time after the runner is gone, each with an error.
    """
    before = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if not issubclass(raised.exc_type, grpc.RpcError):
            before(raised)

    threading.excepthook = hook
    # They print the traceback of an error that they also log and send to the runner.
    vars(sdk_worker)["print"] = lambda *what, **how: None


def launch(
    build: Callable[[beam.Pipeline], Any],
    runner: str,
    options: Sequence[str],
    stopping: Stopping,
    wait: bool,
) -> bool:
    """Run a graph.

    Parameters
    ----------
    build
        Adds the steps to a pipeline.
    runner, options
        One of `RUNNERS`, and all its options.
    stopping
        When it is set, the job is cancelled.
    wait
        Whether to wait for its end.

    Returns
    -------
    bool
        Whether it has ended by itself.

    Raises
    ------
    HeadraceError
        If it fails: the error of the step if the runner tells it.
    """
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
        build(pipeline)
        result = pipeline.run()
        return wait and _ended(result, runner, stopping)
    except HeadraceError:
        raise
    except Exception as error:  # whatever a runner raises: it has one line for the user
        raise _explained(runner, error) from error


def _ended(result: Any, runner: str, stopping: Stopping) -> bool:
    over = threading.Event()
    watcher = threading.Thread(target=_cancel_when, args=(stopping, over, result), daemon=True)
    watcher.start()
    try:
        state = result.wait_until_finish()
    except Exception:
        if stopping.is_set():
            return False
        raise
    finally:
        over.set()
        watcher.join()
    if state != PipelineState.DONE and not stopping.is_set():
        raise RunnerError(f"{runner}: the job ended as {state}; see the log of the runner")
    return bool(state == PipelineState.DONE)


def _cancel_when(stopping: Stopping, over: threading.Event, result: Any) -> None:
    while not over.wait(_LOOK_S):
        if stopping.is_set():
            with contextlib.suppress(Exception):  # it may have ended by itself
                result.cancel()
            return


_RAISED = re.compile(r"headrace\.schemas\.errors\.(\w+): (.+)")


def _explained(runner: str, error: Exception) -> HeadraceError:
    """Return the error of Headrace that a runner's error tells of, or one of the runner."""
    found = _RAISED.findall(str(error))
    if found:
        name, text = found[-1]
        told = RunnerError(text.split("\\n")[0].strip())
        kind = getattr(errors, name, RunnerError)
        if isinstance(kind, type) and issubclass(kind, HeadraceError):
            return told
    if isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE:
        return RunnerError(f"{runner}: the job has failed (the runner is gone)")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    why = (causes or lines or [type(error).__name__])[-1]
    return RunnerError(f"{runner}: the job has failed ({why[:300]})")
