"""The uses of impression columns in the other tables of a configuration."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from headrace.pipelines.sources.heads import Head
from headrace.schemas.config.models import Config
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.records.events import RESERVED_PREFIX


@dataclass(frozen=True)
class Use:
    """One use of an impression column.

    Parameters
    ----------
    key
        The key of the configuration that names the column.
    column
        Its name.
    numeric, lists, text, flag
        Whether it must be a number, whether it may be a list, whether its values are
        taken as text, which bytes may not be, and whether they must be true or false.
    """

    key: str
    column: str
    numeric: bool = False
    lists: bool = False
    text: bool = False
    flag: bool = False


def impression_uses(config: Config) -> list[Use]:
    """Return all uses, in the order in which columns are carried."""
    uses: list[Use] = []
    for name, learner in config.named_learners.items():
        table = config.learner_table(name)
        features, key = learner.features, f"{table}.features"
        uses += [Use(f"{key}.categorical", name) for name in features.categorical]
        uses += [Use(f"{key}.multi_valued", m.column, lists=True, text=True)
                 for m in features.multi_valued]  # fmt: skip
        uses += [Use(f"{key}.numeric.{name}", name, numeric=True) for name in features.numeric]
        uses += [Use(f"{key}.crosses", name, lists=True)
                 for cross in features.crosses for name in cross]  # fmt: skip
        if learner.filter is not None:
            uses += [Use(f"{table}.filter", name) for name in Predicate(learner.filter).columns
                     if name not in config.actions]  # fmt: skip
        for key, column in (("weight", learner.weight), ("offset", learner.offset)):
            if column is not None:
                uses.append(Use(f"{table}.{key}", column, numeric=True))
        if (position := learner.position) is not None:
            uses.append(Use(f"{table}.position.column", position.column, numeric=True))
            if position.randomised is not None:
                uses.append(Use(f"{table}.position.from", position.randomised, flag=True))
        if learner.calibration is not None and learner.calibration.by is not None:
            uses.append(Use(f"{table}.calibration.by", learner.calibration.by, text=True))
    if config.sampling.negative_rate.column is not None:
        key, column = "sampling.negative_rate.column", config.sampling.negative_rate.column
        uses.append(Use(key, column, text=True))
    if config.sampling.keep is not None:
        uses += [Use("sampling.keep", name) for name in Predicate(config.sampling.keep).columns]
    uses += [Use("monitor.slices", name, text=True) for name in config.monitor.slices]
    if config.monitor.propensity is not None:
        uses.append(Use("monitor.propensity", config.monitor.propensity, numeric=True))
    return uses


@dataclass(frozen=True)
class Carried:
    """The impression columns that are carried in addition to key and time.

    Parameters
    ----------
    columns
        Their names, in order.
    left_out
        Names of columns of the files that cannot be carried, and that nothing asks for.
    """

    columns: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """Names the columns that are left out; None without any."""
        if not self.left_out:
            return None
        shown = ", ".join(ascii(name[:_SHOWN]) for name in self.left_out[:_NAMED])
        more = len(self.left_out) - _NAMED
        return (
            "impressions: columns are left out whose names are reserved, taken or not plain, or "
            f"whose types differ by file: {shown}{f' and {more:,} more' if more > 0 else ''}. "
            "Rename those that you need, or declare their types in impressions.types."
        )


_SHOWN, _NAMED, _LONGEST = 40, 5, 200


def carried_columns(config: Config, head: Head, uses: list[Use], taken: Container[str]) -> Carried:
    """Return the impression columns that are carried.

    First the configured ones, then those that other tables use. By default all are carried that
    can be: a log may have columns that its authors did not choose.

    Parameters
    ----------
    config, head, uses
        The configuration, the head of the impressions, and the uses of their columns.
    taken
        Names that other columns of a sample have.
    """
    stream = config.impressions
    named = [use.column for use in uses]
    known = {*stream.key, stream.time.column}
    left_out: list[str] = []
    chosen: Sequence[str] = stream.columns or ()
    if stream.columns is None:
        asked = known.union(named)
        left_out = [
            name for name in head.own
            if name not in asked and (name in taken or not is_plain_name(name))
        ]  # fmt: skip
        left_out += [name for name in head.clashes if name not in asked | head.nested]
        refused = set(left_out)
        chosen = [name for name in head.own if name not in refused]
    wanted = dict.fromkeys([*chosen, *named])
    return Carried(tuple(name for name in wanted if name not in known), tuple(left_out))


def is_plain_name(name: str) -> bool:
    """Return whether a column may be carried because a file has it, without being asked for.

    Names that JSON has to escape, or that a terminal would not show as they are, are none.

    Examples
    --------
    >>> [is_plain_name(name) for name in ("unit price", "größe", "__x", 'a"b', "")]
    [True, True, False, False, False]
    """
    return (
        0 < len(name) <= _LONGEST
        and name.isprintable()
        and not name.startswith(RESERVED_PREFIX)
        and not any(mark in name for mark in '"\\')
    )
