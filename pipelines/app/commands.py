"""What the commands of ``headrace`` do; see `headrace.pipelines.app.cli` for their options."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from headrace.learners.registry import parameter_models
from headrace.monitoring.ending import what_stayed_open
from headrace.pipelines.run.disk import writing
from headrace.pipelines.sources.inputs import Inputs, resolve
from headrace.pipelines.sources.preview import preview
from headrace.schemas.config.durations import format_duration
from headrace.schemas.config.loading import load_config
from headrace.schemas.errors import ConfigError, FolderError


def _load(options: argparse.Namespace) -> Inputs:
    config = load_config(options.config, parameter_models())
    changes: dict[str, Any] = {}
    if getattr(options, "shards", None):
        changes["join"] = config.join.model_copy(update={"shards": options.shards})
    if getattr(options, "batch_rows", None):
        changes["replay"] = config.replay.model_copy(update={"batch_rows": options.batch_rows})
    return resolve(config.model_copy(update=changes), options.config)


def replay(options: argparse.Namespace) -> int:
    """Replay logs."""
    inputs = _load(options)
    preview(inputs)
    quiet_beam()
    from headrace.pipelines.run.folder import opened

    def tell(line: str) -> None:
        if not options.quiet:
            print(f"headrace: {line}", file=sys.stderr)

    # The folder first: Beam takes seconds to import, and a second run is to be told at once.
    with opened(options.out, inputs.files) as place:
        from headrace.pipelines.app.display import closing_table, watching
        from headrace.pipelines.jobs.replay import replay as run_replay

        with watching(inputs, quiet=options.quiet) as watch:
            replayed = run_replay(inputs, place, options.beam_options, watch, options.resume, tell)
    if not options.quiet:
        closing_table(replayed.summary, replayed.findings, options.out)
    elif not replayed.summary["samples"]["rows"] and (said := what_stayed_open(replayed.summary)):
        # A green exit on an empty result would mislead.
        print(f"headrace: no sample has left: {said}", file=sys.stderr)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check every file of a result against its seal."""
    from headrace.pipelines.run.seal import SEAL
    from headrace.pipelines.run.seal import verify as look_at

    if not options.folder.is_dir():
        raise FolderError(options.folder, "is not a folder", "name the --out folder of a replay")
    try:
        verified = look_at(options.folder)
    except FileNotFoundError:
        fact = f"has no {SEAL}"
        hint = "it is not the result of a replay, or of one that is not done: replay anew"
        raise FolderError(options.folder, fact, hint) from None
    for problem in verified.problems:
        print(f"{options.folder}: {problem}")
    if verified.problems:
        return 1
    print(f"{verified.files:,} files, {verified.rows:,} rows: good")
    return 0


def quiet_beam() -> None:
    """Spare users what Beam logs: cloud clients it lacks, and errors that it raises as well."""
    logging.getLogger().setLevel(logging.CRITICAL)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(out, "", "is not a folder", hint="--out names a folder")


def _check_generated(out: Path) -> None:
    """Refuse to generate a log among files of others."""
    _check_folder(out)
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if names and "truth.json" not in names:
        fact = f"holds files that no log of `headrace generate` is among ({', '.join(names[:3])})"
        raise FolderError(out, fact, "choose another folder")


def validate(options: argparse.Namespace) -> int:
    """Check a configuration and say what it would do."""
    from headrace.pipelines.app.display import describe
    from headrace.pipelines.jobs.validation import validate as check

    inputs = _load(options)
    describe(inputs, check(inputs))
    return 0


def windows(options: argparse.Namespace) -> int:
    """See what each window would catch and cost."""
    config = load_config(options.config, parameter_models())
    longest = options.longest
    if not config.actions:
        raise ConfigError(options.config, "actions", "is missing", hint="there is nothing to join")
    preview(resolve(config, options.config))
    from headrace.monitoring.report.page import render_windows
    from headrace.pipelines.app.display import counting, windows_page, windows_table
    from headrace.pipelines.jobs.windows import as_json, measure_windows

    with counting() as watch:
        measured = measure_windows(config, options.config, longest, options.coverage, watch)
    pages = windows_page(measured, options.coverage)
    windows_table(pages)
    if options.out is not None:
        _check_folder(options.out)
        text = json.dumps(as_json(measured), indent=2) + "\n"
        with writing(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "windows.json").write_text(text, encoding="utf-8")
            (options.out / "windows.html").write_text(render_windows(pages), encoding="utf-8")
        print(f"page      {options.out / 'windows.html'}")
    return 0


def generate(options: argparse.Namespace) -> int:
    """Generate a traffic log."""
    from headrace.pipelines.jobs.generate import Traffic, write_traffic

    _check_generated(options.out)
    traffic = Traffic(
        impressions=options.impressions,
        rate=options.rate,
        seed=options.seed,
        clean=options.clean,
    )
    with writing(options.out):
        written = write_traffic(traffic, options.out, options.format)
    print(
        f"{written.impressions:,} impressions and {written.clicks:,} clicks over "
        f"{format_duration(written.duration // 1_000_000 * 1_000_000)} of event time"
    )
    print(f"next: headrace replay {options.out / 'headrace.toml'} --out {options.out / 'out'}")
    return 0
