import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.joiner.plan.emission import EMISSIONS
from headrace.learners import ordering
from headrace.learners.features import FeatureEncoder, Features
from headrace.learners.handover import Inline
from headrace.learners.learning import LearnerPlan, TrainPlan
from headrace.learners.models.ftrl import FtrlParameters
from headrace.learners.ordering import EpochOrder, canonical_order
from headrace.learners.registry import ALGORITHMS
from headrace.learners.trainer import Received, Trainer
from headrace.schemas.config.predicates import Predicate
from headrace.schemas.records.envelope import SampleEnvelope
from headrace.schemas.records.events import ACTION_ORDER, EMIT, FOREVER, KEY0, KEY1, NEVER, RATE
from tests.learners.lagging import Lagging


def plan(correction="weight"):
    return TrainPlan({"click": learner()}, correction)


def learner(bits=8, **parameters):
    features = Features(categorical=("device",))
    parameters = FtrlParameters(**{"l1": 0.0, **parameters})
    return LearnerPlan("click", features, bits, "ftrl", ALGORITHMS["ftrl"], parameters)


def batch(rows):
    """Make samples from (emit time, key, emission, event time, label)."""
    emission = pa.array([row[2] for row in rows], pa.int8())
    return pa.RecordBatch.from_pydict(
        {
            "device": [f"d{row[1] % 3}" for row in rows],
            "click": [row[4] for row in rows],
            "click_mature": [row[4] for row in rows],
            "emission": pa.DictionaryArray.from_arrays(emission, pa.array(EMISSIONS)),
            "event_time": pa.array([row[3] for row in rows], pa.timestamp("us", "UTC")),
            "weight": [1.0 for _ in rows],
            EMIT: pa.array([row[0] for row in rows], pa.int64()),
            KEY0: pa.array([row[1] for row in rows], pa.uint64()),
            KEY1: pa.array([row[1] * 7 for row in rows], pa.uint64()),
            RATE: [0.1 for _ in rows],
        }
    )


def ordered(done, name):
    """Return a column of an epoch, put in order."""
    return done.epoch.column(name)[done.epoch.order]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(0, 20), st.integers(0, 3), st.integers(0, 2), st.booleans()
    ),
    max_size=40,
    unique_by=lambda row: row[:4],
)


@given(ROWS, st.permutations(range(40)), st.integers(1, 5))
def test_the_canonical_order_is_total(rows, shuffle, cut):
    """Ties in emit time are ordered by key, emission and event time, however parts are cut."""
    rows = [rows[i] for i in shuffle if i < len(rows)]
    parts = [batch(rows[i : i + cut]) for i in range(0, len(rows), cut)]
    if parts:
        order = canonical_order(parts)
        assert [rows[i][:4] for i in order] == sorted(row[:4] for row in rows)


@settings(deadline=None)
@given(ROWS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_model_does_not_depend_on_shards_or_arrival(rows, shards, random):
    """Any number of shards, any cuts and any interleaving give the same bits."""

    def train(shards, random):
        trainer = Trainer(shards, 10, plan())
        queues = []
        for shard in range(shards):
            own = sorted(row for row in rows if row[1] % shards == shard)
            queue = []
            while own:
                cut = random.randint(1, len(own)) if random else len(own)
                # Samples of one emit time must not be split: progress includes it.
                while cut < len(own) and own[cut][0] == own[cut - 1][0]:
                    cut += 1
                queue.append((own[cut - 1][0], batch(own[:cut])))
                own = own[cut:]
            queue.append((FOREVER, None))
            queues.append(queue)
        sequence = [0] * shards
        learned = []
        while any(queues):
            shard = (
                random.choice([s for s in range(shards) if queues[s]])
                if random
                else next(s for s in range(shards) if queues[s])
            )
            progress, samples = queues[shard].pop(0)
            envelope = SampleEnvelope(
                shard, shards, sequence[shard], progress, batches=[samples] if samples else []
            )
            sequence[shard] += 1
            for sent in (envelope, envelope):  # a repeat is ignored
                for done in trainer.receive(sent).samples:
                    columns = (
                        ordered(done, EMIT),
                        ordered(done, KEY0),
                        done.margins["click"],
                    )
                    learned += list(zip(*columns, strict=True))
        assert trainer.ended
        return trainer.learners["click"].zn.tobytes(), learned

    assert train(shards, random) == train(1, None)


@settings(deadline=None)
@given(ROWS, st.integers(1, 5))
def test_a_hand_over_that_lags_behind_changes_nothing(rows, cut):
    """What is returned, and the state after a flush, equal those of the inline hand-over."""
    rows = sorted(rows)
    parts = [rows[i : i + cut] for i in range(0, len(rows), cut)]

    def train(handover):
        trainer = Trainer(1, 10, plan(), handover=handover)
        learned = []
        for sequence, part in enumerate(parts):
            progress = part[-1][0] - 1 if sequence + 1 < len(parts) else FOREVER
            sent = SampleEnvelope(0, 1, sequence, progress, batches=[batch(part)])
            learned += trainer.receive(sent).samples
        learned += trainer.flush()
        return (
            [(ordered(done, EMIT).tolist(), done.margins["click"].tolist()) for done in learned],
            trainer.learners["click"].zn.tobytes(),
            trainer.ledger.samples,
        )

    assert train(Lagging) == train(Inline)


@given(ROWS, st.integers(1, 5))
def test_what_the_end_of_a_log_completes_is_learned_in_pieces(rows, most):
    """Of about as many samples as there may be, at ends of epochs; that changes nothing."""
    rows = sorted(rows)

    def train(most):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ordering, "_ROWS", most)
            trainer = Trainer(1, 10, plan())
            sent = SampleEnvelope(0, 1, 0, FOREVER, batches=[batch(rows)])
            learned = trainer.receive(sent).samples
        emitted = [ordered(done, EMIT).tolist() for done in learned]
        margins = [margin for done in learned for margin in done.margins["click"].tolist()]
        zn = trainer.learners["click"].zn.tobytes()
        return emitted, ([time for piece in emitted for time in piece], margins, zn)

    pieces, found = train(most)
    assert found == train(10**6)[1]
    epochs = [{time // 10 for time in piece} for piece in pieces]
    assert all(not a & b for a, b in itertools.combinations(epochs, 2))
    for piece in pieces:  # an epoch is in one piece, however many samples it has
        assert sum(time // 10 > piece[0] // 10 for time in piece) <= most


def test_saving_with_pending_samples_is_refused(tmp_path):
    """They would be lost: flush first."""
    trainer = Trainer(1, 10, plan(), handover=Lagging)
    sent = SampleEnvelope(0, 1, 0, 25, batches=[batch([(3, 1, 0, 3, True)])])
    assert trainer.receive(sent) == Received()
    with pytest.raises(
        RuntimeError, match="samples were pending in the hand-over; flush before saving"
    ):
        trainer.save(tmp_path, {})


@settings(deadline=None, max_examples=20)
@given(ROWS, st.integers(1, 5), st.integers(0, 8))
def test_a_loaded_trainer_continues_bit_for_bit(rows, cut, stop):
    """Saved after any envelope: order, ledger and learners are the same to the last bit."""
    rows = sorted(rows)
    parts = [rows[i : i + cut] for i in range(0, len(rows), cut)]
    sent = [
        SampleEnvelope(
            0, 1, number, part[-1][0] - 1, [[number, 0]], {"click": {"settled": number}}, number,
            [[0, number]], {"memory": number}, batches=[batch(part)],
        )
        for number, part in enumerate(parts)
    ]  # fmt: skip
    sent.append(SampleEnvelope(0, 1, len(parts), FOREVER, spans=[[0, 1]], ends=[9]))

    def end(trainer, envelopes):
        margins = [
            done.margins["click"].tolist()
            for envelope in envelopes
            for done in trainer.receive(envelope).samples
        ]
        return margins, trainer.ledger.totals(), trainer.learners["click"].zn.tobytes()

    first = Trainer(1, 10, plan())
    for envelope in sent[:stop]:
        first.receive(envelope)
    with tempfile.TemporaryDirectory() as folder:
        state = json.loads(json.dumps(first.save(Path(folder), {})))
        again = Trainer(1, 10, plan())
        waiting = SampleEnvelope.decode(first.unlearned().encode())
        again.load(Path(folder), state, waiting)
    assert end(again, sent[stop:]) == end(first, sent[stop:])


def test_learners_of_equal_features_share_an_encoding(monkeypatch):
    """Equal features are encoded once per epoch, and the learners stay independent."""
    encoded = []
    encode = FeatureEncoder.encode
    monkeypatch.setattr(
        FeatureEncoder, "encode", lambda self, rows: encoded.append(self) or encode(self, rows)
    )
    learners = {"a": learner(), "b": learner(alpha=0.5), "c": learner(bits=9), "d": learner()}
    trainer = Trainer(1, 10, TrainPlan(learners, "weight"))
    rows = [(n, n, 0, n, n % 3 == 0) for n in range(60)]
    (done,) = trainer.receive(SampleEnvelope(0, 1, 0, FOREVER, batches=[batch(rows)])).samples
    assert [encoder.mask for encoder in encoded] == [2**8 - 1, 2**9 - 1]
    for name in learners:
        alone = Trainer(1, 10, TrainPlan({name: learners[name]}, "weight"))
        sent = SampleEnvelope(0, 1, 0, FOREVER, batches=[batch(rows)])
        (one,) = alone.receive(sent).samples
        assert one.margins[name].tolist() == done.margins[name].tolist()
    assert done.margins["a"].tolist() == done.margins["d"].tolist()
    assert done.margins["a"].tolist() != done.margins["b"].tolist()


class Until:
    """A guard that admits so many rows, and decides after every seven."""

    columns, lead, holding = (), None, True

    def __init__(self, count):
        self.count, self.seen, self.asked = count, 0, 0

    @property
    def remaining(self):
        return min(7, self.count - self.seen) if self.seen < self.count else 7

    def begin(self):
        pass

    def encode(self, columns, order):
        return np.zeros((order.size, 0), np.int32)

    def look_up(self, encoded, some):
        return encoded[some]

    def holder(self, scopes):
        return np.full(len(scopes), 0 if self.seen >= self.count else -1, np.int32)

    def reason(self, holder):
        return "enough"

    def observe(self, emit, positive, odds, scopes):
        assert len(emit) == len(positive) == len(odds) == len(scopes) <= self.remaining
        self.seen += len(emit)

    def held_at(self, emit, columns):
        return np.zeros(emit.size, np.bool_)

    def take_journal(self):
        return []


def test_a_row_that_a_guard_holds_back_is_a_sample_but_is_not_learned():
    """All samples leave; the model is the same as without the rows held back."""
    rows = [(n, n, 0, n, n % 3 == 0) for n in range(60)]
    ends = []
    for guards, shown in (({"click": Until(25)}, rows), ({}, rows[:25])):
        trainer = Trainer(1, 10, plan(), guards)
        left = []
        for sequence, begin in enumerate(range(0, 60, 10)):
            part = shown[begin : begin + 10]
            progress = FOREVER if begin == 50 else begin + 9
            batches = [batch(part)] if part else []
            sent = SampleEnvelope(0, 1, sequence, progress, batches=batches)
            left += trainer.receive(sent).samples
        ends.append(trainer.learners["click"].zn.tobytes())
        assert sum(done.epoch.order.size for done in left) == len(shown)
        assert sum(done.margins["click"].size for done in left) == len(shown)
        held = [done.held["click"] for done in left if done.held]
        assert sum(of.rows.size for of in held) == len(shown) - 25
        assert trainer.step.learned["click"] == 25
    assert ends[0] == ends[1]


def test_an_epoch_waits_for_every_shard():
    """Nothing is learned before all shards are past the end of the epoch."""
    trainer = Trainer(2, 10, plan())
    first = SampleEnvelope(0, 2, 0, 25, batches=[batch([(3, 1, 0, 3, True)])])
    assert trainer.receive(first) == Received()
    assert trainer.receive(first) == Received(repeated=True)
    assert trainer.receive(SampleEnvelope(1, 2, 0, 8)) == Received()
    (done,) = trainer.receive(SampleEnvelope(1, 2, 1, 9)).samples
    assert ordered(done, EMIT).tolist() == [3]
    assert trainer.order.released == 10


def beside(times, shard):
    """Make rows that leave beside the samples, from their emit times."""
    columns = {name: [shard] * len(times) for name in ACTION_ORDER}
    return pa.RecordBatch.from_pydict({**columns, EMIT: times})


def test_rows_beside_the_samples_leave_in_steps():
    """Before their epoch is complete, in the order in which they leave with it."""
    emitted = {0: [0, 3, 7, 12, 19], 1: [1, 3, 4, 11, 19]}

    def sent(*bounds):
        for sequence, (since, until) in enumerate(zip((-1, *bounds), bounds, strict=False)):
            for shard, times in emitted.items():
                rows = beside([time for time in times if since < time <= until], shard)
                yield SampleEnvelope(shard, 2, sequence, until, beside={"joined": [rows]})

    def left(order, envelopes):
        found = [order.receive(envelope).beside for envelope in envelopes]
        return [rows["joined"].column(EMIT).to_pylist() for rows in found if rows]

    envelopes = list(sent(3, 8, 30))
    whole = left(EpochOrder(2, 10), envelopes)
    assert whole == [[0, 1, 3, 3, 4, 7, 11, 12, 19, 19]]
    order = EpochOrder(2, 10, step=2)
    assert left(order, envelopes[:4]) == [[0, 1, 3, 3], [4, 7]]
    assert (order.released, order.stepped) == (0, 8)
    again = EpochOrder(2, 10, step=2)
    again.restore(json.loads(json.dumps(order.export())), order.unreleased())
    for halfway in (order, again):
        assert left(halfway, envelopes[4:]) == [[11, 12, 19, 19]]


@pytest.mark.parametrize("emission", ["window", "immediate"])
@pytest.mark.parametrize("again", [None, 3, 5])
def test_the_published_model_is_that_of_the_last_impression(emission, again):
    """If what leaves after it is not like what left before; all the same it is learned."""
    train, drains = TrainPlan({"click": learner()}, "weight", emission), emission == "window"
    rows = [(emit, key, 0, emit, True) for emit in (3, 24, 25, 26, 38, 41) for key in (0, 1)]

    def sent(times, until, sequence, ended):
        for shard, last in enumerate((25, 17)):
            own = [row for row in rows if row[1] == shard and row[0] in times]
            batches = [batch(own)] if own else []
            yield SampleEnvelope(
                shard, 2, sequence, until, last=last if ended else NEVER, batches=batches
            )

    def trained(plan, *envelopes):
        trainer = Trainer(2, 10, plan)
        for number, envelope in enumerate(envelopes):
            if number == again:
                trainer = loaded(trainer, plan)
            trainer.receive(envelope)
        return trainer

    first, rest = [*sent((3,), 8, 0, False)], [*sent((24, 25), 25, 1, False)]
    known, drain = [*sent((26,), 29, 2, True)], [*sent((38, 41), FOREVER, 3, True)]
    trainer = trained(train, *first, *rest, *known, *drain)
    before = trained(plan(), *first, *rest, *sent((), FOREVER, 2, True))
    whole = trained(plan(), *first, *rest, *known, *drain)
    assert trainer.learners["click"].zn.tobytes() == whole.learners["click"].zn.tobytes()
    published = whole if drains else before
    found = trainer.step.published["click"]
    assert found.zn.tobytes() == published.learners["click"].zn.tobytes()
    assert (trainer.ledger.samples, trainer.ledger.published) == (12, 12 if drains else 6)
    with tempfile.TemporaryDirectory() as folder:
        manifests = trainer.save_models(lambda name: Path(folder) / name, {})
    assert manifests["click"]["samples"] == trainer.ledger.published


@pytest.mark.parametrize(
    ("emission", "clicks", "buys"),
    [("immediate", [0, 1, 3, 4], [0, 2, 3, 4]), ("window_and_immediate", [0, 1, 3], [0, 2, 3, 4])],
)
def test_a_learner_learns_what_tells_of_its_label(emission, clicks, buys):
    """Not again what left for another one; the statistics are those of the rows learned."""
    names = ["immediate", "positive", "positive", "window", "window"]
    rows = [(n, n, EMISSIONS.index(name), n, n in (1, 2, 4)) for n, name in enumerate(names)]
    triggers = pa.array([None, "click", "buy", None, None]).dictionary_encode()
    samples = batch(rows).append_column("trigger", triggers)
    samples = samples.append_column("buy", pa.array([False, False, True, False, False]))
    samples = samples.append_column("buy_mature", pa.array([True] * 5))
    learners = {"c": learner(), "b": replace(learner(), label="buy")}
    trainer = Trainer(1, 10, TrainPlan(learners, "weight", emission))
    (done,) = trainer.receive(SampleEnvelope(0, 1, 0, FOREVER, batches=[samples])).samples
    assert {name: own.tolist() for name, own in done.rows.items()} == {"c": clicks, "b": buys}
    for name, own in done.rows.items():
        alone = learners[name].make()
        encoded = FeatureEncoder(learners[name].features, 8).encode(samples)
        label = samples.column(learners[name].label).to_numpy(zero_copy_only=False)[own]
        alone.learn(encoded, own, label * 1.0, np.ones(own.size), np.zeros(own.size))
        assert trainer.learners[name].zn.tobytes() == alone.zn.tobytes()
        assert done.margins[name].size == own.size


@pytest.mark.parametrize("again", [None, 1])
def test_a_learner_learns_what_its_filter_lets_through_by_its_weights(again):
    """A sample without a weight, or with one below zero, is counted, and not learned."""
    train = TrainPlan(
        {
            "all": learner(),
            "some": replace(learner(), filter=Predicate("price > 2 and buy"), among=("buy",)),
            "heavy": replace(learner(), weight="price"),
            "shifted": replace(learner(), offset="price"),
        },
        "weight",
    )
    price = pa.array([1.0, 3.0, None, -1.0, float("inf"), 4.0, 0.0, 5.0])
    buy = pa.array([True, True, True, False, True, False, True, True])
    samples = batch([(n, n, 0, n, n % 2 == 0) for n in range(8)])
    samples = samples.append_column("price", price).append_column("buy", buy)
    sent = [
        SampleEnvelope(0, 1, 0, 3, batches=[samples.slice(0, 4)]),
        SampleEnvelope(0, 1, 1, FOREVER, batches=[samples.slice(4)]),
    ]
    trainer, rows = Trainer(1, 4, train), {name: [] for name in train.learners}
    margins = {name: [] for name in train.learners}
    for number, envelope in enumerate(sent):
        if number == again:
            trainer = loaded(trainer, train)
        for done in trainer.receive(envelope).samples:
            for name, own in done.rows.items():
                margins[name].append(done.margins[name])
                rows[name] += ordered(done, EMIT)[np.searchsorted(done.epoch.order, own)].tolist()
    assert rows == {"all": [*range(8)], "some": [1, 4, 7], "heavy": [0, 1, 5, 6, 7],
                    "shifted": [0, 1, 3, 5, 6, 7]}  # fmt: skip
    assert trainer.step.refused == {"all": 0, "some": 0, "heavy": 3, "shifted": 2}
    shift = np.array([1.0, 3.0, -1.0, 4.0, 0.0, 5.0])
    for name, weight, offset in (
        ("some", np.ones(3), np.zeros(3)),
        ("heavy", np.array([1.0, 3.0, 4.0, 0.0, 5.0]), np.zeros(5)),
        ("shifted", np.ones(6), shift),
    ):
        alone, own = train.learners[name].make(), np.array(rows[name])
        encoded = FeatureEncoder(train.learners[name].features, 8).encode(samples)
        label = samples.column("click").to_numpy(zero_copy_only=False)[own] * 1.0
        margin = offset + alone.learn(encoded, own, label, weight, offset)
        assert trainer.learners[name].zn.tobytes() == alone.zn.tobytes()
        assert np.concatenate(margins[name]).tolist() == margin.tolist()


@pytest.mark.parametrize(("bought", "learned"), [(False, [0, 1, 2, 3]), (True, [0, 1, 2])])
def test_conversions_among_clicks_are_learned_when_the_click_comes(bought, learned):
    """What leaves again for the filter's label is news; for others, or although bought, is not."""
    names = ["positive", "positive", "positive", "window", "positive", "immediate"]
    samples = batch([(n, n, EMISSIONS.index(name), n, n < 5) for n, name in enumerate(names)])
    triggers = pa.array(["click", "buy", "click", None, "like", None]).dictionary_encode()
    samples = samples.append_column("trigger", triggers)
    samples = samples.append_column("buy", pa.array([False, True, True, bought, False, False]))
    samples = samples.append_column("buy_mature", pa.array([True] * 6))
    conversions = replace(learner(), label="buy", filter=Predicate("click"), among=("click",))
    train = TrainPlan({"buy": conversions}, "weight", "window_and_immediate")
    (done,) = (
        Trainer(1, 10, train).receive(SampleEnvelope(0, 1, 0, FOREVER, batches=[samples])).samples
    )
    assert done.rows["buy"].tolist() == learned


def test_an_early_envelope_waits_for_those_before_it():
    """It completes nothing before its turn, and changes nothing when it comes again."""
    trainer = Trainer(1, 10, plan())
    sent = [
        SampleEnvelope(0, 1, n, 10 * n + 9, [[n, 0]], batches=[batch([(10 * n, n, 0, n, True)])])
        for n in range(4)
    ]
    assert trainer.receive(sent[2]) == Received()
    assert trainer.receive(sent[2]) == Received(repeated=True)
    assert trainer.receive(sent[1]) == Received()
    assert trainer.ledger.positions == []
    (done,) = trainer.receive(sent[0]).samples
    assert ordered(done, EMIT).tolist() == [0, 10, 20]
    assert trainer.ledger.positions == [[2, 0]]
    for repeated in sent[:3]:
        assert trainer.receive(repeated) == Received(repeated=True)
    (done,) = trainer.receive(sent[3]).samples
    assert ordered(done, EMIT).tolist() == [30]
    assert not trainer.order.early


@settings(deadline=None, max_examples=30)
@given(ROWS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_order_in_which_envelopes_come_changes_nothing(rows, cut, random):
    """Shuffled, repeated, and saved and loaded in between: the same samples, model and counts."""
    sent = []
    for shard in range(2):
        own = sorted(row for row in rows if row[1] % 2 == shard)
        parts = [own[i : i + cut] for i in range(0, len(own), cut)]
        sent += [
            SampleEnvelope(shard, 2, n, part[-1][0] - 1, dropped=n, batches=[batch(part)])
            for n, part in enumerate(parts)
        ]
        sent.append(SampleEnvelope(shard, 2, len(parts), FOREVER, dropped=len(parts)))

    def train(envelopes, again):
        trainer, learned = Trainer(2, 10, plan()), []
        for number, envelope in enumerate(envelopes):
            if number == again:
                trainer = loaded(trainer)
            for done in trainer.receive(envelope).samples:
                columns = (ordered(done, EMIT), ordered(done, KEY0), done.margins["click"])
                learned += list(zip(*columns, strict=True))
        assert trainer.ended
        assert not trainer.order.early
        return learned, trainer.learners["click"].zn.tobytes(), trainer.ledger.dropped

    shuffled = random.sample(sent * 2, len(sent) * 2)
    assert train(shuffled, random.randrange(len(shuffled))) == train(sent, None)


def loaded(trainer, train=None):
    """Return another trainer with the state of one, by way of what is written of it."""
    with tempfile.TemporaryDirectory() as folder:
        state = json.loads(json.dumps(trainer.save(Path(folder), {})))
        again = Trainer(trainer.order.shards, 10, train or plan())
        again.load(Path(folder), state, SampleEnvelope.decode(trainer.unlearned().encode()))
    return again


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("correction", ["weight", "logit", "recalibrate", "none"])
def test_every_correction_but_none_is_calibrated_after_downsampling(correction, algorithm):
    """Trained on a tenth of the negatives, by every algorithm with its defaults."""
    random = np.random.default_rng(1)
    rows, weights = [], []
    for i in range(60_000):
        label = random.random() < 0.1
        if label or random.random() < 0.1:
            rows.append((i, i, bool(label)))
            weights.append(1.0 if label or correction != "weight" else 10.0)
    samples = batch([(emit, 0, 0, emit, label) for emit, _, label in rows])
    samples = samples.set_column(
        samples.schema.get_field_index("weight"), "weight", pa.array(weights)
    )
    kind = ALGORITHMS[algorithm]
    learning = replace(learner(), algorithm=algorithm, kind=kind, parameters=kind.parameters())
    trainer = Trainer(1, 10, TrainPlan({"click": learning}, correction))
    (done,) = trainer.receive(SampleEnvelope(0, 1, 0, FOREVER, batches=[samples])).samples
    p = 1 / (1 + np.exp(-done.margins["click"][-2000:]))
    if correction == "none":
        assert p.mean() > 0.4
    else:
        assert abs(p.mean() - 0.1) < 0.02


def test_a_loaded_trainer_remembers_what_was_clipped(tmp_path):
    """Its counts are part of the state."""
    first = Trainer(1, 10, plan())
    first.step.clipped["click"].update({"price": 3})
    state = json.loads(json.dumps(first.save(tmp_path, {})))
    again = Trainer(1, 10, plan())
    again.load(tmp_path, state, first.unlearned())
    assert again.step.clipped == first.step.clipped == {"click": {"price": 3}}


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_the_effective_sample_size_is_that_of_kish(cut):
    """To the last bit wherever the samples are cut, and after loading."""
    random = np.random.default_rng(2)
    weight = random.choice([1.0, 10.0, 0.3], 100)
    samples = batch([(10 * n, n, 0, n, n % 3 == 0) for n in range(100)])
    place = samples.schema.get_field_index("weight")
    samples = samples.set_column(place, "weight", pa.array(weight))
    trainer = Trainer(1, 10, plan())
    for number, begin in enumerate(range(0, 100, cut)):
        part = samples.slice(begin, cut)
        end = begin + part.num_rows
        progress = FOREVER if end == 100 else 10 * end - 1
        trainer.receive(SampleEnvelope(0, 1, number, progress, batches=[part]))
        trainer = loaded(trainer)
    expected = [0.0, 0.0]
    for w in weight.tolist():
        expected = [expected[0] + w, expected[1] + w**2]
    assert trainer.step.weights["click"] == expected


def test_the_model_that_serves_is_part_of_the_state():
    """It predicts what becomes known as it was when it began to serve."""
    train = TrainPlan({"click": learner()}, "weight", gated=True)
    trainer = Trainer(1, 10, train)
    samples = batch([(10 * n, n, 0, n, n % 3 == 0) for n in range(40)])
    first = SampleEnvelope(0, 1, 0, 199, batches=[samples.slice(0, 20)])
    trainer.receive(first)
    trainer.serve(["click"])
    serving = trainer.learners["click"].zn.tobytes()
    for end in (299, FOREVER):
        begin = 20 if end == 299 else 30
        part = samples.slice(begin, 10)
        trainer.receive(SampleEnvelope(0, 1, trainer.order.received, end, batches=[part]))
        trainer = loaded(trainer, train)
        assert trainer.step.champions["click"].zn.tobytes() == serving
    assert trainer.learners["click"].zn.tobytes() != serving
