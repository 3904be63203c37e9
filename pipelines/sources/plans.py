"""From a configuration and the heads of files to the plans of join and learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from headrace.joiner.plan.emission import EmissionPlan
from headrace.joiner.plan.plans import ActionPlan, JoinPlan
from headrace.joiner.plan.sampling import SamplingPlan
from headrace.joiner.plan.served import ServedPlan
from headrace.learners.calibration import CalibrationPlan
from headrace.learners.exact import CODE_BITS, ExactTable
from headrace.learners.features import Features, MultiValued
from headrace.learners.learning import LearnerPlan, TrainPlan, judged_learners
from headrace.learners.position import PositionPlan
from headrace.learners.registry import Algorithms
from headrace.monitoring.guard import GuardPlan
from headrace.monitoring.lead import LeadPlan, step_for
from headrace.pipelines.sources.heads import Head
from headrace.pipelines.sources.numbering import Numbering
from headrace.pipelines.sources.source import Log
from headrace.schemas.config.models import (
    ActionConfig,
    CalibrationConfig,
    Config,
    FeaturesConfig,
    GuardConfig,
    MomentConfig,
    PositionConfig,
    SamplingConfig,
    StreamConfig,
)
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.records.eventing import EventPlan, TimePlan, TrustedTime
from headrace.schemas.records.events import FOREVER, IMPRESSIONS, NEVER
from headrace.schemas.records.notation import Notation


@dataclass(frozen=True)
class StreamPlan:
    """How one stream is read.

    Parameters
    ----------
    number, name
        `IMPRESSIONS` or the number of an action stream, and its name in outputs.
    table
        Its table in the configuration.
    events
        How its records become events.
    sorts
        Whether its files are sorted by event time on reading.
    notation
        How values are written, and what becomes of those that do not fit their column.
    complete_until
        Event time until which its log is declared complete, microseconds; None if unset.
    numbering
        How positions number its records.
    told
        Progress with which its sources begin: until then an earlier run has taken the stream as
        complete; microseconds, `NEVER` without one.
    """

    number: int
    name: str
    table: str
    events: EventPlan
    sorts: bool
    notation: Notation
    complete_until: int | None
    numbering: Numbering
    told: int = NEVER

    @property
    def most_progress(self) -> int:
        """Upper bound of the stream's progress, however late its events are; microseconds."""
        return FOREVER if self.complete_until is None else self.complete_until


def stream_plans(
    config: Config, heads: Sequence[Head], carried: tuple[str, ...]
) -> tuple[StreamPlan, ...]:
    """Plan the reading of every stream, by number.

    Parameters
    ----------
    config
        The configuration.
    heads
        The heads of all streams, by number.
    carried
        Impression columns that are carried in addition to key and time.
    """
    where = [config.impressions.key.index(name) for name in config.join.group]
    plans = []
    for number, (table, stream) in enumerate(config.streams.items()):
        group = tuple(stream.key[i] for i in where)
        written = stream.time
        time, trusted = _time_plan(written), None
        if written.trusted is not None:
            trusted = TrustedTime(_time_plan(written.trusted), written.trusted.within)
        if isinstance(stream, ActionConfig):
            events = EventPlan(number, stream.key, time, stream.columns, group, stream.id, trusted)
        else:
            events = EventPlan(IMPRESSIONS, stream.key, time, carried, group, trusted=trusted)
        name = table.removeprefix("actions.")
        plans.append(
            StreamPlan(
                number, name, table, events, stream.order == "sort",
                _notation(stream, events, heads[number]), stream.complete_until,
                heads[number].numbering, heads[number].told,
            )
        )  # fmt: skip
    return tuple(plans)


def _time_plan(config: MomentConfig) -> TimePlan:
    return TimePlan(config.column, config.unit, config.format, config.zone)


def _notation(stream: StreamConfig, events: EventPlan, head: Head) -> Notation:
    """Only key and event time decide whether a record can be joined."""
    needed = {*events.key, events.time.column}
    if events.trusted is not None:
        needed.add(events.trusted.time.column)
    others = set(events.columns) - needed if stream.bad_values == "null" else ()
    return Notation(
        frozenset(others), stream.null_values, stream.decimal, stream.thousands, head.json
    )


def join_plan(
    config: Config,
    heads: Sequence[Head],
    carried: tuple[str, ...],
    logs: Sequence[Log],
    train: TrainPlan,
) -> JoinPlan:
    """Plan the join.

    Parameters
    ----------
    config
        The configuration.
    heads
        The heads of all streams, by number.
    carried
        Impression columns that are carried in addition to key and time.
    logs
        All logs, by number.
    train
        The learners that learn from what is joined.
    """
    actions = []
    for (name, action), head in zip(config.actions.items(), heads[1:], strict=True):
        fields = [(column, head.columns[column]) for column in action.columns]
        actions.append(ActionPlan(name, action.window, pa.schema(fields)))
    return JoinPlan(
        actions=tuple(actions),
        columns=(*config.impressions.key, *carried),
        keys=len(config.impressions.key),
        sources=len(logs),
        shards=config.join.shards,
        epoch=config.epoch,
        sampling=sampling_plan(config.sampling),
        early=config.join.early,
        wait_for_impression=config.wait_for_impression,
        dedup_horizon=config.dedup_horizon,
        retention=config.join.retention,
        group_span=config.group_span,
        emission=EmissionPlan(
            config.join.emission, *config.join.elapsed, seed=config.sampling.seed
        ),
        joined=config.join.joined,
        starts={log.number: log.start for log in logs if log.start},
        shown=tuple(log.number for log in logs if log.stream == IMPRESSIONS),
        served=_served_plan(config, train),
    )


def _calibration_plan(config: CalibrationConfig | None) -> CalibrationPlan | None:
    if config is None:
        return None
    return CalibrationPlan(config.kind, config.by, config.half_life)


def _position_plan(config: PositionConfig | None) -> PositionPlan | None:
    # As a feature the position needs nothing in training.
    if config is None or config.method == "feature":
        return None
    return PositionPlan(config.column, config.method, config.theta, config.randomised, config.clip)


def _served_plan(config: Config, train: TrainPlan) -> ServedPlan:
    learners = train.learners.values()
    offsets = [learner.offset for learner in learners if learner.offset is not None]
    by = [of.by for learner in learners if (of := learner.calibration) and of.by is not None]
    columns = [name for learner in learners for name in learner.features.columns]
    columns += [learner.position.column for learner in learners if learner.position is not None]
    propensity = [] if config.monitor.propensity is None else [config.monitor.propensity]
    labelled = [learner.label for learner in learners]
    labelled += [name for learner in learners if learner.filter for name in learner.filter.columns]
    return ServedPlan(
        config.monitor.served_share if learners else 0.0,
        tuple(dict.fromkeys([*columns, *offsets, *by])),
        tuple(dict.fromkeys([*labelled, *by, *config.monitor.slices, *propensity])),
        config.sampling.seed,
        _arrivals_step(config, train),
    )


def _arrivals_step(config: Config, train: TrainPlan) -> int:
    if config.guard.action == "off" or not config.monitor.served_share:
        return 0
    windows = [config.actions[label].window for label in _led(train)]
    return step_for(max(windows) + config.join.early) if windows else 0


def _led(train: TrainPlan) -> list[str]:
    """Return the labels whose arrivals can be compared with predictions.

    Not those that are predicted of some impressions alone: how many actions the others have is
    not known.
    """
    return [
        label for label, name in judged_learners(train).items()
        if train.learners[name].filter is None
    ]  # fmt: skip


def sampling_plan(config: SamplingConfig) -> SamplingPlan:
    """Plan which negatives are kept, from the table ``[sampling]``."""
    rate = config.negative_rate
    return SamplingPlan(
        rate=rate.default,
        column=rate.column,
        rates=dict(rate.values),
        keep=None if config.keep is None else Predicate(config.keep),
        published=dict(config.publish),
        by_group=config.unit == "group",
        weighted=config.correction == "weight",
        seed=config.seed,
    )


def features_plan(config: FeaturesConfig) -> Features:
    """Plan the features of a learner, from its table ``features``."""
    multi_valued = tuple(MultiValued(m.column, m.separator) for m in config.multi_valued)
    return Features(config.categorical, multi_valued, config.numeric, config.crosses)


def train_plan(config: Config, algorithms: Algorithms) -> TrainPlan:
    """Plan the learners; `algorithms` must have all that the configuration names."""
    learners = {}
    for name, learner in config.named_learners.items():
        condition = None if learner.filter is None else Predicate(learner.filter)
        among = () if condition is None else condition.columns
        table = ExactTable(learner.admit, learner.expire) if learner.table == "exact" else None
        learners[name] = LearnerPlan(
            learner.label,
            features_plan(learner.features),
            CODE_BITS if table is not None else learner.bits,
            learner.algorithm,
            algorithms[learner.algorithm],
            learner.parameters,
            condition,
            tuple(column for column in among if column in config.actions),
            learner.weight,
            learner.offset,
            learner.delay,
            _calibration_plan(learner.calibration),
            table,
            _position_plan(learner.position),
        )
    gated = config.publish is not None
    return TrainPlan(learners, config.sampling.correction, config.join.emission, gated)


def guard_plan(config: GuardConfig) -> GuardPlan | None:
    """Plan when learning is disconnected, from the table ``[guard]``."""
    if config.action == "off":
        return None
    return GuardPlan(
        config.warn,
        config.disconnect,
        config.slice_warn,
        config.slice_disconnect,
        config.alarm,
        config.settle,
        config.cap,
        config.action == "disconnect",
        tuple(sorted(config.accept)),
    )


def lead_plans(join: JoinPlan, train: TrainPlan) -> dict[str, LeadPlan]:
    """Plan by label how arrivals are compared with predictions."""
    if not join.served.step:
        return {}
    streams = {action.name: stream for stream, action in enumerate(join.actions)}
    return {
        label: LeadPlan(
            streams[label], join.served.share, join.served.step,
            join.actions[streams[label]].window + join.early, join.release_delay,
        )
        for label in _led(train)
    }  # fmt: skip
