"""The uses of impression columns in the other tables of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.pipelines.sources.heads import Head
from headrace.schemas.config.models import Config
from headrace.schemas.config.predicates import Predicate


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


def carried_columns(config: Config, head: Head, uses: list[Use]) -> tuple[str, ...]:
    """Return the impression columns that are carried in addition to key and time.

    First the configured ones (default: all), then those that other tables use.
    """
    stream = config.impressions
    chosen = head.own if stream.columns is None else stream.columns
    wanted = dict.fromkeys([*chosen, *(use.column for use in uses)])
    return tuple(name for name in wanted if name not in {*stream.key, stream.time.column})
