"""What a join needs to know, resolved: times in microseconds, types known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from headrace.joiner.plan.emission import EmissionPlan
from headrace.joiner.plan.sampling import SamplingPlan
from headrace.joiner.plan.served import ServedPlan
from headrace.schemas.config import delays


@dataclass(frozen=True)
class ActionPlan:
    """One action stream.

    Parameters
    ----------
    name
        The label's name.
    window
        Length of the window, microseconds; open at its end.
    carried
        Fields of the columns that go into the sample, under their input names.
    """

    name: str
    window: int
    carried: pa.Schema


@dataclass(frozen=True)
class JoinPlan:
    """A whole join; durations in microseconds, defaults resolved.

    `dedup_horizon` is at least `settle_delay` plus `early`, and more than 0: so an
    action belongs to one kept impression at most, and no two kept impressions have
    one key and event time.

    Parameters
    ----------
    actions
        The action streams, in the order of their stream numbers.
    columns
        Impression columns of the sample, keys first, without the time column.
    types
        Their types, to compare those of a restored state with; empty if they are not known.
    keys
        How many of `columns` are the join key.
    sources, shown
        Number of sources over all streams, and the numbers of those that are of impressions.
    epoch
        A shard tells its progress at least once an epoch of event time.
    emission
        When samples leave.
    joined
        Whether each action leaves with its impression as soon as both are known.
    served
        Which impressions are predicted when known, and scored when settled.
    starts
        The position of the first record of each source, 0 for those that are not named.
    """

    actions: tuple[ActionPlan, ...]
    columns: tuple[str, ...]
    keys: int
    sources: int
    shards: int
    epoch: int
    sampling: SamplingPlan
    early: int = 0
    wait_for_impression: int = 0
    dedup_horizon: int = 0
    retention: int = 0
    group_span: int = 0
    emission: EmissionPlan = field(default_factory=EmissionPlan)
    joined: bool = False
    starts: Mapping[int, int] = field(default_factory=dict)
    served: ServedPlan = field(default_factory=ServedPlan)
    shown: tuple[int, ...] = (0,)
    types: pa.Schema = field(default_factory=lambda: pa.schema([]))

    @property
    def meets(self) -> bool:
        """Whether something leaves as impressions and actions become known, before settling."""
        return self.joined or self.emission.early

    @property
    def triggers(self) -> bool:
        """Whether actions make samples leave again, or corrections."""
        return self.emission.early or self.retention > 0

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Names of all streams by stream number."""
        return ("impressions", *(action.name for action in self.actions))

    @property
    def longest_window(self) -> int:
        """The longest action window, 0 without actions."""
        return delays.longest_window(action.window for action in self.actions)

    @property
    def settle_delay(self) -> int:
        """From an impression's event time to its settling."""
        return delays.settle_delay((action.window for action in self.actions), self.group_span)

    @property
    def release_delay(self) -> int:
        """From an impression's event time to the emission of its sample.

        A unit of sampling that is a group can only be judged when all
        impressions within `group_span` of this one have settled.
        """
        return self.settle_delay + (self.group_span if self.sampling.by_group else 0)

    @property
    def action_deadline(self) -> int:
        """From an action's event time to the clock by which it is decided.

        By then every impression that is visible to it, whose event time is
        less than `wait_for_impression` after its own, has settled.
        """
        return self.wait_for_impression + self.settle_delay

    @property
    def remembered_for(self) -> int:
        """From a kept impression's event time to the clock by which its key is forgotten."""
        return self.settle_delay + self.dedup_horizon

    @property
    def retained_for(self) -> int:
        """From a kept impression's event time to the clock by which its columns are."""
        return self.settle_delay + self.retention

    @property
    def held_for(self) -> int:
        """From an impression's event time to the clock by which its group does without it."""
        return self.release_delay + self.group_span

    @property
    def asked_for(self) -> int:
        """From an action's event time to the clock by which nothing asks for it any more."""
        if not self.meets and not self.retention:
            return self.action_deadline
        # It met an impression at most `early` later, which is retained for a while.
        return max(self.action_deadline, self.early + self.retained_for)
