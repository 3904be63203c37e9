"""The configuration file as one frozen model.

Everything below the command line receives these models, with durations in
microseconds. What the file alone cannot show (does the column exist, can the
log be read) is checked by `headrace.pipelines.sources.inputs`.
"""

from __future__ import annotations

import itertools
import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from headrace.schemas.config import delays
from headrace.schemas.config.durations import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    format_duration,
    parse_duration,
)
from headrace.schemas.config.kafka import KafkaConfig, topic_name
from headrace.schemas.config.outputs import OutputsConfig, conflicts_of_outputs
from headrace.schemas.config.places import conflicts_of_places
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.errors import without_secrets
from headrace.schemas.types import parse_type


def _duration(value: object) -> object:
    if isinstance(value, str):
        duration = parse_duration(value)
        if duration > _LONGEST:
            raise ValueError("is longer than a hundred years; is the unit right?")
        return duration
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    raise ValueError('expected a duration in quotes, such as "10m"')


_LONGEST = 36_525 * DAY


def _learner_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("names folders; use letters, digits, _ and -, such as main")
    return name


def _stream_name(name: str) -> str:
    # It is part of the names of columns and folders, and stands in conditions and queries.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            "names a label, columns and folders; use letters, digits and _, a letter first, "
            "such as click"
        )
    if name == "impressions":
        raise ValueError("is the name of the impression stream; choose another, such as click")
    return name


def _moment(value: object) -> object:
    """Convert a moment, as a TOML date and time or as text, to microseconds UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError('expected a time such as "2026-11-20T00:00Z"')
    if value.tzinfo is None:
        raise ValueError('has no time zone; write "2026-11-20T00:00Z" for UTC')
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name} twice; name each column once")
    return names


def _type(name: str) -> str:
    parse_type(name)
    return name


def _rate(value: object) -> object:
    return {"default": value} if isinstance(value, int | float) else value


def _multi_valued(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple({"column": item} if isinstance(item, str) else item for item in value)
    return value


Duration = Annotated[int, BeforeValidator(_duration), Field(ge=0)]
Moment = Annotated[int, BeforeValidator(_moment), Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Columns = Annotated[tuple[str, ...], BeforeValidator(_one_or_more), AfterValidator(_once)]
ColumnType = Annotated[str, AfterValidator(_type)]
TopicName = Annotated[str, AfterValidator(topic_name)]


class Model(BaseModel):
    """Base of the configuration models: frozen, and unknown keys are refused."""

    # A path may hold a password, which must not show in an error either.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, hide_input_in_errors=True,
        serialize_by_alias=True,
    )  # fmt: skip


class MomentConfig(Model):
    """A column of times, and how they are written.

    Give ``unit`` for numbers (since 1970-01-01 UTC), also in text, ``format`` and ``zone``
    for text, neither for Arrow timestamps (taken as UTC if they have no zone).
    """

    column: str
    unit: Literal["ns", "us", "ms", "s"] | None = None
    format: str | None = None
    zone: str = "UTC"

    @model_validator(mode="after")
    def _one_notation(self) -> Self:
        if self.unit is not None and self.format is not None:
            raise ValueError("give unit (for integers) or format (for text), not both")
        return self

    @field_validator("zone")
    @classmethod
    def _existing_zone(cls, zone: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError('unknown time zone; use an IANA name such as "UTC"') from error
        return zone


class TrustedConfig(MomentConfig):
    """A time that a clock of one's own wrote; event times may be at most ``within`` after it."""

    within: Duration = 10 * MINUTE


class TimeConfig(MomentConfig):
    """Where a stream's event time is, and how it is written.

    If all times lie in 1970, the unit is refused as wrong, unless ``any_year``.
    """

    any_year: bool = False
    trusted: TrustedConfig | None = None


class StreamConfig(Model):
    """One input stream: its files or its topic, join key and event time."""

    path: Names = Field(default=(), min_length=1, repr=False)
    topic: TopicName | None = None
    value: Literal["json", "avro", "protobuf", "arrow"] = "json"
    # Pydantic has a method of this name.
    schema_file: str | None = Field(default=None, min_length=1, alias="schema")
    message: str | None = None
    header: Literal["none", "confluent"] | None = None
    subject: str | None = Field(default=None, min_length=1)
    key: Columns = Field(min_length=1)
    time: TimeConfig
    order: Literal["sorted", "sort"] = "sorted"
    format: Literal["parquet", "csv", "jsonl"] | None = None
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', max_length=1)
    types: dict[str, ColumnType] = {}
    decimal: Literal[".", ","] = "."
    thousands: str = Field(default="", max_length=1)
    bad_values: Literal["null", "reject"] = "null"
    null_values: Names | None = None
    max_line: int = Field(default=1_000_000, ge=1000, le=1 << 30)
    complete_until: Moment | None = None

    @field_serializer("path", when_used="json")
    def _without_secrets(self, path: tuple[str, ...]) -> list[str]:
        return [without_secrets(pattern) for pattern in path]

    @field_validator("delimiter")
    @classmethod
    def _one_byte(cls, delimiter: str) -> str:
        if not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError("must be one ASCII character that is not a quote; use , ; | or \\t")
        return delimiter

    @field_validator("quote")
    @classmethod
    def _another(cls, quote: str, info: ValidationInfo) -> str:
        if not quote.isascii() or quote in ("\r", "\n", "\0", info.data.get("delimiter")):
            raise ValueError('must be one ASCII character, or "" if fields are not quoted')
        return quote

    @field_validator("thousands")
    @classmethod
    def _no_part_of_numbers(cls, thousands: str, info: ValidationInfo) -> str:
        if thousands.isalnum() or thousands in ("+", "-", info.data.get("decimal")):
            raise ValueError("cannot stand between the digits of a number; use , . ' or a blank")
        return thousands


class ImpressionsConfig(StreamConfig):
    """The impression stream; ``columns`` limits what is carried (default: all)."""

    columns: Names | None = None


class ActionConfig(StreamConfig):
    """One action stream; the name of its table is the name of its label."""

    window: Duration
    id: str | None = None
    columns: Names = ()

    @field_validator("window")
    @classmethod
    def _positive(cls, window: int) -> int:
        if window <= 0:
            raise ValueError("join window must be positive; 30m is usual for display ads")
        return window


class JoinConfig(Model):
    """How the streams meet; all durations in microseconds.

    ``None`` stands for the default that depends on other keys; `Config`
    offers the resolved values.
    """

    shards: int = Field(default=2, ge=1, le=4096)
    out_of_orderness: Duration = 0
    early: Duration = 0
    wait_for_impression: Duration | None = None
    dedup_horizon: Duration | None = None
    retention: Duration = 0
    group: Names = ()
    group_span: Duration | None = None
    max_jump: Duration = 90 * MINUTE
    end_of_log: Literal["open", "close"] = "open"
    joined: bool = False
    emission: Literal["window", "immediate", "elapsed", "window_and_immediate"] = "window"
    elapsed: tuple[Fraction, Fraction] = (0.0, 1.0)

    @field_validator("elapsed")
    @classmethod
    def _ordered(cls, elapsed: tuple[float, float]) -> tuple[float, float]:
        if elapsed[0] > elapsed[1]:
            raise ValueError("the first bound must not exceed the second; [0.0, 1.0] is usual")
        return elapsed


class RateConfig(Model):
    """A negative rate, or one for each value of an impression column."""

    default: float = Field(default=1.0, gt=0, le=1)
    column: str | None = None
    values: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}

    @model_validator(mode="after")
    def _column_and_values(self) -> RateConfig:
        if bool(self.values) != (self.column is not None):
            raise ValueError(
                "a table of rates needs both column and values, "
                'such as { column = "device", values = { phone = 0.1 }, default = 0.5 }'
            )
        return self


class SamplingConfig(Model):
    """Which negatives are kept, and how the learner is corrected for it."""

    negative_rate: Annotated[RateConfig, BeforeValidator(_rate)] = RateConfig()
    unit: Literal["row", "group"] = "row"
    keep: str | None = None
    publish: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    correction: Literal["weight", "logit", "recalibrate", "none"] = "weight"
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("keep")
    @classmethod
    def _condition(cls, keep: str | None) -> str | None:
        if keep is not None:
            Predicate(keep)
        return keep


class MultiValuedConfig(Model):
    """A column of several values: a list column, or text with a separator."""

    column: str
    separator: str = Field(default=" ", min_length=1)


NumericForm = Literal["linear", "log"] | tuple[float, ...]


class FeaturesConfig(Model):
    """The columns that become features."""

    categorical: Names = ()
    multi_valued: Annotated[tuple[MultiValuedConfig, ...], BeforeValidator(_multi_valued)] = ()
    numeric: dict[str, NumericForm] = {}
    crosses: tuple[tuple[str, ...], ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """Every column that some feature needs."""
        crossed = (column for cross in self.crosses for column in cross)
        several = (multi.column for multi in self.multi_valued)
        return frozenset({*self.categorical, *several, *self.numeric, *crossed})

    @field_validator("numeric")
    @classmethod
    def _ascending(cls, numeric: dict[str, NumericForm]) -> dict[str, NumericForm]:
        for name, form in numeric.items():
            edges = () if isinstance(form, str) else form
            rising = all(a < b for a, b in itertools.pairwise(edges))
            if not isinstance(form, str) and not (
                edges and rising and all(math.isfinite(edge) for edge in edges)
            ):
                raise ValueError(
                    f"the edges of {name} must be numbers that rise; write such as [18, 30, 50]"
                )
        return numeric

    @field_validator("crosses")
    @classmethod
    def _at_least_two(cls, crosses: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for cross in crosses:
            if len(cross) < 2:
                raise ValueError("a cross needs at least two columns")
        return crosses


Delay = Literal["fnw", "fnc", "es-dfm", "defer"]

DELAYS: dict[Delay, str] = {
    "fnw": "immediate", "fnc": "immediate", "es-dfm": "elapsed", "defer": "window_and_immediate",
}  # fmt: skip
"""The correction for delayed actions, and the emission that it undoes."""


def _calibration(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class CalibrationConfig(Model):
    """How predictions are calibrated after training; a kind alone is short for its table."""

    kind: Literal["sigmoid", "isotonic", "piecewise"]
    by: str | None = None
    half_life: Duration = DAY

    @field_validator("half_life")
    @classmethod
    def _positive(cls, half_life: int) -> int:
        if half_life < MINUTE:
            raise ValueError("must be 1m or longer; 1d is usual")
        return half_life


class PositionConfig(Model):
    """How a learner is corrected for the position of impressions."""

    column: str
    method: Literal["offset", "clicks", "feature"]
    theta: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        default=None, min_length=1
    )
    randomised: str | None = Field(default=None, alias="from")
    clip: float = Field(default=10.0, ge=1, allow_inf_nan=False)
    at: int = Field(default=1, ge=1, le=127)  # which a number of any type can be

    @model_validator(mode="after")
    def _of_method(self) -> Self:
        """Check that keys go together; those with their defaults may have been written out."""
        told = (self.theta is not None) + (self.randomised is not None)
        if self.method == "feature" and told:
            raise ValueError('"feature" needs no theta; leave theta and from out')
        if self.method != "feature" and told != 1:
            raise ValueError(
                f'"{self.method}" needs theta, or from, and not both; write such as '
                'theta = [1, 0.6, 0.4], or from = "randomised"'
            )
        for key, method in (("clip", "clicks"), ("at", "feature")):
            default = type(self).model_fields[key].default
            if self.method != method and getattr(self, key) != default:
                raise ValueError(f'{key} is of method = "{method}"; leave it out')
        return self


class LearnerConfig(Model):
    """A learner: the keys that all learners have, and the parameters of its algorithm.

    In a file the parameters stand beside the other keys. The context of the validation
    maps the names of algorithms to the models of their parameters
    (`headrace.schemas.config.loading.parse_config`): they belong to the learners, of
    which this package knows nothing.
    """

    label: str
    algorithm: str = "ftrl"
    bits: int = Field(default=22, ge=1, le=30)
    epoch: Duration = 10 * SECOND
    filter: str | None = None
    weight: str | None = None
    offset: str | None = None
    position: PositionConfig | None = None
    delay: Delay | None = None
    start: str | None = None
    calibration: Annotated[CalibrationConfig | None, BeforeValidator(_calibration)] = None
    table: Literal["hashed", "exact"] = "hashed"
    admit: int = Field(default=1, ge=1, le=1_000_000)
    expire: Duration | None = None
    features: FeaturesConfig = FeaturesConfig()
    parameters: SerializeAsAny[Model]

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, table: Any) -> Any:
        """Gather the keys that not all learners have, for its algorithm to check."""
        if not isinstance(table, dict):
            return table
        common = {name: table[name] for name in cls.common() if name in table}
        others = {name: value for name, value in table.items() if name not in common}
        return {**common, "parameters": others}

    @field_validator("filter")
    @classmethod
    def _condition(cls, text: str | None) -> str | None:
        if text is not None:
            Predicate(text)
        return text

    @field_validator("algorithm")
    @classmethod
    def _registered(cls, algorithm: str, info: ValidationInfo) -> str:
        if algorithm not in (info.context or ()):
            raise ValueError(
                "there is no learner of this name; use one of "
                + ", ".join(sorted(info.context or ()))
            )
        return algorithm

    @field_validator("parameters", mode="before")
    @classmethod
    def _of_algorithm(cls, parameters: Any, info: ValidationInfo) -> Model:
        if "algorithm" not in info.data:
            return Model()  # the error is reported for the algorithm
        model: type[Model] = (info.context or {})[info.data["algorithm"]]
        return model.model_validate(parameters, context=info.context)

    @field_validator("admit", "expire")
    @classmethod
    def _of_exact_table(cls, given: int | None, info: ValidationInfo) -> int | None:
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("table") == "hashed" and given != default:
            raise ValueError('a hashed table knows no single feature; add table = "exact"')
        return given

    @field_validator("expire")
    @classmethod
    def _some_time(cls, expire: int | None) -> int | None:
        if expire is not None and expire <= 0:
            raise ValueError("features expire after more than no time; 30d is usual")
        return expire

    @field_validator("epoch")
    @classmethod
    def _positive(cls, epoch: int) -> int:
        if epoch <= 0:
            raise ValueError("an epoch must be greater than zero; 10s is usual")
        return epoch

    @model_serializer(mode="wrap")
    def _beside(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the parameters beside the other keys, as a file has them."""
        table: dict[str, Any] = handler(self)
        parameters = table.pop("parameters")
        return {**table, **parameters}

    @classmethod
    def common(cls) -> list[str]:
        """List the keys that every learner has."""
        return [name for name in cls.model_fields if name != "parameters"]


class MonitorConfig(Model):
    """What is monitored: overall, and by the values of the slice columns."""

    slices: Columns = ()
    window: Duration = HOUR
    near_misses: bool = False
    served_share: float = Field(default=0.1, ge=0, le=1)
    propensity: str | None = None
    history: Duration = 35 * DAY

    @field_validator("window")
    @classmethod
    def _positive(cls, window: int) -> int:
        if window < MINUTE:
            raise ValueError("a monitoring window must be 1m or longer; 1h is usual")
        return window


class GuardConfig(Model):
    """How far labels may be from what is predicted before nothing is learned from them."""

    action: Literal["disconnect", "warn", "off"] = "disconnect"
    warn: float = Field(default=1.25, gt=1, le=1000)
    disconnect: float = Field(default=1.5, gt=1, le=1000)
    slice_warn: float = Field(default=1.5, gt=1, le=1000)
    slice_disconnect: float = Field(default=2.0, gt=1, le=1000)
    alarm: float = Field(default=1e5, ge=100, allow_inf_nan=False)
    settle: Duration = DAY
    cap: Duration = 6 * HOUR
    accept: tuple[Moment, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for narrow, wide in (("warn", "disconnect"), ("slice_warn", "slice_disconnect")):
            if getattr(self, narrow) > getattr(self, wide):
                raise ValueError(f"{narrow} must not be above {wide}: a warning comes first")
        return self


class PublishConfig(Model):
    """How much worse than the model that serves a new one may be to take over from it."""

    entropy: float = Field(default=0.02, ge=0)
    calibration: float = Field(default=0.1, ge=0)
    auc: float = Field(default=0.01, ge=0, le=1)
    positives: int = Field(default=100, ge=1)


class ReplayConfig(Model):
    """How a replay uses this machine; nothing here changes a result."""

    batch_rows: int | None = Field(default=None, ge=1, le=1_000_000)
    sort_memory_mb: int = Field(default=256, ge=1)
    checkpoint: Duration = 30 * SECOND
    state: bool = True


class LiveConfig(Model):
    """How a run that does not end reads topics and saves its state; all durations in microseconds.

    Only ``start`` and ``idle_after`` can change a result.
    """

    start: Literal["earliest", "latest"] | Moment = "earliest"
    idle_after: Duration = MINUTE
    stall_after: Duration = 30 * SECOND
    max_skew: Duration = MINUTE
    checkpoint: Duration = 10 * SECOND
    snapshot: Duration = MINUTE


def _delays_for(emission: str) -> str:
    return " or ".join(delay for delay, undone in DELAYS.items() if undone == emission)


class Config(Model):
    """A whole configuration file."""

    impressions: ImpressionsConfig
    actions: dict[Annotated[str, AfterValidator(_stream_name)], ActionConfig] = {}
    join: JoinConfig = JoinConfig()
    sampling: SamplingConfig = SamplingConfig()
    features: dict[Annotated[str, AfterValidator(_learner_name)], FeaturesConfig] = {}
    learner: LearnerConfig | None = None
    learners: dict[Annotated[str, AfterValidator(_learner_name)], LearnerConfig] = {}
    monitor: MonitorConfig = MonitorConfig()
    guard: GuardConfig = GuardConfig()
    publish: PublishConfig | None = None
    replay: ReplayConfig = ReplayConfig()
    live: LiveConfig = LiveConfig()
    kafka: KafkaConfig | None = None
    outputs: OutputsConfig = OutputsConfig()
    _file: str = PrivateAttr(default="configuration")

    @property
    def file(self) -> str:
        """The file it was read from: paths are relative to its folder, errors name it."""
        return self._file

    @property
    def streams(self) -> dict[str, StreamConfig]:
        """All streams by the names of their tables, the impressions first."""
        actions = {f"actions.{name}": action for name, action in self.actions.items()}
        return {"impressions": self.impressions, **actions}

    @property
    def named_learners(self) -> dict[str, LearnerConfig]:
        """All learners by name: ``[learner]`` is ``[learners.LABEL]``, named after its label."""
        return self.learners if self.learner is None else {self.learner.label: self.learner}

    def learner_table(self, name: str) -> str:
        """Return the name of a learner's table in the file."""
        return f"learners.{name}" if self.learner is None else "learner"

    @property
    def epoch(self) -> int:
        """The shortest epoch of any learner, microseconds: it holds for all of them."""
        epochs = [learner.epoch for learner in self.named_learners.values()]
        return min(epochs, default=10 * SECOND)

    @property
    def topics(self) -> dict[str, str]:
        """The topic of each stream by the name of its table; empty if the streams are files."""
        topics = {name: stream.topic for name, stream in self.streams.items()}
        return {name: topic for name, topic in topics.items() if topic is not None}

    @property
    def longest_window(self) -> int:
        """The longest action window, microseconds; 0 without actions."""
        return delays.longest_window(action.window for action in self.actions.values())

    @property
    def group_span(self) -> int:
        """The resolved ``group_span``: 0 without a group, else 10 s unless set."""
        if not self.join.group:
            return 0
        return 10 * SECOND if self.join.group_span is None else self.join.group_span

    @property
    def settle_delay(self) -> int:
        """How long after its event time an impression settles."""
        windows = (action.window for action in self.actions.values())
        return delays.settle_delay(windows, self.group_span)

    @property
    def wait_for_impression(self) -> int:
        """The resolved ``wait_for_impression``: the longest window unless set."""
        wait = self.join.wait_for_impression
        return self.longest_window if wait is None else wait

    @property
    def dedup_horizon(self) -> int:
        """The resolved ``dedup_horizon``: unless set, the longest of 1 h and what is required.

        Required is at least ``settle_delay`` plus ``early``, so that an action belongs to
        at most one kept impression, and ``retention``, because a key can be corrected only
        while it is remembered.
        """
        horizon = self.join.dedup_horizon
        default = max(self.settle_delay + self.join.early, HOUR, self.join.retention)
        return default if horizon is None else horizon

    @property
    def batch_rows(self) -> int:
        """The resolved ``batch_rows``: 8,192 for each shard, between 2^16 and 2^19 in all."""
        # A block is one envelope for each shard, and most of an envelope's cost is fixed.
        wanted = min(max(8_192 * self.join.shards, 65_536), 524_288)
        return wanted if self.replay.batch_rows is None else self.replay.batch_rows

    def conflicts(self) -> tuple[str, str, Any, str] | None:
        """Find the first contradiction between keys: (key, fact, value, hint)."""
        return next(self._conflicts(), None)

    def _conflicts_of_position(
        self, name: str, learner: LearnerConfig, position: PositionConfig
    ) -> Any:
        table = self.learner_table(name)
        is_feature = position.column in learner.features.columns
        if position.method == "feature" and not is_feature:
            yield (
                f"{table}.position",
                "is to be a feature, and is none",
                position.column,
                f"add it to {table}.features.categorical",
            )
        if position.method != "feature" and is_feature:
            yield (
                f"{table}.position",
                "is corrected for, and a feature too, so that its effect would be learned twice",
                position.column,
                f'leave it out of {table}.features, or use method = "feature"',
            )
        if learner.calibration is not None and learner.calibration.by == position.column:
            yield (
                f"{table}.calibration.by",
                "is the position, for which predictions are none",
                position.column,
                "leave it out",
            )
        if position.randomised is not None and self.join.emission != "window":
            yield (
                f"{table}.position.from",
                f'needs labels that are final, and join.emission is "{self.join.emission}"',
                position.randomised,
                "give theta, such as theta = [1, 0.6, 0.4]",
            )

    def _conflicts(self) -> Any:
        yield from conflicts_of_places(self.streams, self.kafka, bool(self.outputs.topics))
        yield from conflicts_of_outputs(self)
        arity = len(self.impressions.key)
        for name, action in self.actions.items():
            if len(action.key) != arity:
                yield (
                    f"actions.{name}.key",
                    f"has {len(action.key)} columns, impressions.key has {arity}",
                    list(action.key),
                    "name one column for each column of impressions.key, in the same order",
                )
        for table, names in (("actions", self.actions), ("learners", self.learners)):
            known: dict[str, str] = {}
            for name in names:
                other = known.setdefault(name.casefold(), name)
                if other != name:
                    yield (
                        f"{table}.{name}",
                        f"differs from {other} by case alone",
                        None,
                        "choose another name: folders have these names, and macOS and Windows do "
                        "not tell them apart",
                    )
        if self.learner is not None and self.learners:
            yield (
                "learner",
                "is given beside learners",
                None,
                "name it too: [learners.NAME]",
            )
        if self.publish is not None and not self.monitor.served_share:
            yield (
                "publish",
                "compares impressions as served, and monitor.served_share is 0",
                None,
                "leave monitor.served_share out, or set it to 0.1",
            )
        if self.monitor.propensity is not None and not self.monitor.served_share:
            yield (
                "monitor.propensity",
                "weighs impressions as served, and monitor.served_share is 0",
                self.monitor.propensity,
                "leave monitor.served_share out, or set it to 0.1",
            )
        if self.monitor.propensity is not None and not self.monitor.slices:
            yield (
                "monitor.propensity",
                "is to compare the values of slices, and monitor.slices has none",
                self.monitor.propensity,
                'add columns, such as monitor.slices = ["device"]',
            )
        placed = [learner.position is not None for learner in self.named_learners.values()]
        if self.monitor.propensity is not None and placed and all(placed):
            yield (
                "monitor.propensity",
                "is for learners without a position, and there is none",
                self.monitor.propensity,
                "leave it out, or add a learner without position",
            )
        for name, learner in self.named_learners.items():
            if learner.label not in self.actions:
                yield (
                    f"{self.learner_table(name)}.label",
                    "no action stream has this name",
                    learner.label,
                    f"use one of {', '.join(sorted(self.actions))}, or add "
                    f"[actions.{learner.label}]"
                    if self.actions
                    else f"add [actions.{learner.label}]",
                )
            if learner.delay is not None and self.join.emission != DELAYS[learner.delay]:
                yield (
                    f"{self.learner_table(name)}.delay",
                    f'does not fit join.emission = "{self.join.emission}"',
                    learner.delay,
                    f'it undoes "{DELAYS[learner.delay]}"; for yours use '
                    + (_delays_for(self.join.emission) or "none: its labels are final"),
                )
            if learner.calibration is not None and not self.monitor.served_share:
                yield (
                    f"{self.learner_table(name)}.calibration",
                    "is fitted to impressions as served, and monitor.served_share is 0",
                    learner.calibration.kind,
                    "leave monitor.served_share out, or set it to 0.1",
                )
            if learner.position is not None:
                yield from self._conflicts_of_position(name, learner, learner.position)
            if learner.filter is not None and learner.label in Predicate(learner.filter).columns:
                yield (
                    f"{self.learner_table(name)}.filter",
                    "is a condition on the label itself, which nobody knows beforehand",
                    learner.filter,
                    "leave the label out of it",
                )
        for column in self.join.group:
            if column not in self.impressions.key:
                yield (
                    "join.group",
                    "a group column must be part of impressions.key",
                    column,
                    f"use columns of it ({', '.join(self.impressions.key)}): actions are routed "
                    "by it too",
                )
        if self.join.group_span is not None and not self.join.group:
            yield ("join.group_span", "is set without join.group", None, "set join.group as well")
        least = self.settle_delay + self.join.early
        if self.dedup_horizon < least:
            yield (
                "join.dedup_horizon",
                "is shorter than the longest window plus group_span plus early "
                f"({format_duration(least)})",
                format_duration(self.dedup_horizon),
                "raise it: a key must be remembered until no action can belong to its impression",
            )
        for key, stream in self.streams.items():
            if stream.complete_until is not None and self.join.end_of_log == "close":
                yield (
                    f"{key}.complete_until",
                    'has no meaning with join.end_of_log = "close"',
                    None,
                    "leave one of them out: a complete log closes every window",
                )
        if self.join.retention > self.dedup_horizon:
            yield (
                "join.retention",
                f"is longer than dedup_horizon ({format_duration(self.dedup_horizon)})",
                format_duration(self.join.retention),
                "raise join.dedup_horizon to at least the retention",
            )
        if 0 < self.join.early >= self.wait_for_impression:
            yield (
                "join.early",
                "is not shorter than wait_for_impression "
                f"({format_duration(self.wait_for_impression)})",
                format_duration(self.join.early),
                "shorten it: an early action would be given up before its impression comes",
            )
        if self.join.elapsed != (0.0, 1.0) and self.join.emission != "elapsed":
            yield (
                "join.elapsed",
                f'has no meaning with emission = "{self.join.emission}"',
                list(self.join.elapsed),
                'set join.emission = "elapsed"',
            )
        if not self.actions and (self.join.joined or self.join.emission != "window"):
            key = "joined" if self.join.joined else "emission"
            yield (
                f"join.{key}",
                "needs an action stream",
                getattr(self.join, key),
                "add [actions.NAME], or leave it out",
            )
        if self.join.emission != "window" and self.sampling.unit == "group":
            yield (
                "sampling.unit",
                f'cannot be group with join.emission = "{self.join.emission}"',
                "group",
                'use "row": a group is judged after its windows close, but samples leave before',
            )
        rates = self.sampling.negative_rate
        highest = max([rates.default, *rates.values.values()])
        for name, rate in self.sampling.publish.items():
            if rate > highest:
                yield (
                    f"sampling.publish.{name}",
                    f"is above every negative_rate ({highest:g})",
                    rate,
                    "raise negative_rate: what was dropped cannot be published",
                )
        if self.sampling.unit == "group":
            if not self.join.group:
                yield (
                    "sampling.unit",
                    "is group, but join.group is not set",
                    "group",
                    "set join.group",
                )
            if self.sampling.correction in ("logit", "recalibrate"):
                yield (
                    "sampling.correction",
                    'cannot undo unit = "group": a negative beside a positive is always kept, '
                    "so no one shift of the log-odds is right",
                    self.sampling.correction,
                    'use "weight"',
                )
