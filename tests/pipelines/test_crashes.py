"""The two stateful steps under every fault of a bundle."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace
from random import Random

import pyarrow as pa
import pytest

from headrace.learners.handover import Inline
from headrace.learners.registry import parameter_models
from headrace.pipelines.beam.durable import BAG_NAMES
from headrace.pipelines.beam.joining import DEAD, JoinShards
from headrace.pipelines.beam.training import FINISHED, RELEASED, TrainEpochs
from headrace.pipelines.jobs.replay import train_job
from headrace.pipelines.run.store import Store
from headrace.pipelines.sinks.marks import Marks
from headrace.pipelines.sources.inputs import resolve
from headrace.pipelines.sources.merge import read_blocks
from headrace.pipelines.training.handover import Threaded
from headrace.schemas.config.loading import load_config
from headrace.schemas.records.envelope import CORRECTIONS, JOINED
from headrace.schemas.records.events import FOREVER
from tests.learners.lagging import Lagging
from tests.pipelines.cells import Step


def undisturbed(step, bundle, random):
    step.run(bundle)


def fails_before_finish(step, bundle, random):
    """The bundle fails; the runner tries again with the same instance."""
    step.attempt(bundle[: random.randint(0, len(bundle))], finish=False)
    step.run(bundle)


def fails_after_finish(step, bundle, random):
    """The bundle finishes, but its commit is lost."""
    step.attempt(bundle)
    step.run(bundle)


def instance_is_new(step, bundle, random):
    """Every bundle gets a new instance of the step."""
    step.dofn = step.make()
    step.run(bundle)


def process_is_new(step, bundle, random):
    """The worker has ended: instance and memory are lost."""
    step.dofn.states.forget()
    step.dofn = step.make()
    step.run(bundle)


def older_state_is_restored(step, bundle, random):
    """The runner returns to an older state and runs the bundle again."""
    before = copy.deepcopy(step.state)
    step.run(bundle)
    step.state = before
    step.outputs.pop()
    step.run(bundle)


def two_attempts_race(step, bundle, random):
    """Two attempts at one bundle finish in either order; one of them is committed."""
    first, second = step.dofn, step.make()
    step.dofn = first
    one = step.attempt(bundle, finish=False)
    step.dofn = second
    other = step.attempt(bundle, finish=False)
    for dofn, (_, outputs) in random.sample([(first, one), (second, other)], 2):
        step.finish(dofn, outputs)
    step.commit(random.choice([one, other]))


FAULTS = [
    fails_before_finish,
    fails_after_finish,
    instance_is_new,
    process_is_new,
    older_state_is_restored,
    two_attempts_race,
]


@pytest.fixture(scope="module")
def job(log, tmp_path_factory):
    return read_job(log, tmp_path_factory)


def read_job(log, tmp_path_factory, **join):
    config = load_config(log / "headrace.toml", parameter_models())
    config = config.model_copy(update={"join": config.join.model_copy(update=join)})
    inputs = resolve(config)
    blocks = list(read_blocks(inputs, 150, str(tmp_path_factory.mktemp("scratch"))))
    elements = [item for block in blocks for item in enumerate(block.envelopes)]
    return inputs, elements


def bundles(elements, random):
    at = 0
    while at < len(elements):
        size = random.randint(1, 40)
        yield elements[at : at + size]
        at += size


def out_of_order(elements, reach, random):
    """Return elements up to so many places from where they were, and some of them twice."""
    repeated = [(at, element) for at, element in enumerate(elements) if random.random() < 0.1]
    moved = [(at + random.uniform(0, reach), at) for at, _ in [*enumerate(elements), *repeated]]
    return [elements[at] for _, at in sorted(moved)]


def run_job(job, folder, faults, seed=0, handover=Inline, reach=0):
    """Run both steps with a random fault in every bundle; return all their outputs.

    With a `reach` envelopes between them come out of order.
    """
    inputs, elements = job
    random, scope = Random(seed), uuid.uuid4().hex
    join = Step(lambda: JoinShards(inputs.join, inputs.origins, scope), len(BAG_NAMES))
    for bundle in bundles(elements, random):
        random.choice(faults)(join, bundle, random)
    spec = replace(
        train_job(inputs, "model"), store=Store(folder), journal_bytes=200_000, handover=handover
    )
    train = Step(lambda: TrainEpochs(spec, scope), 2)
    sent = out_of_order(join.main(), reach, random) if reach else join.main()
    for bundle in bundles(sent, random):
        random.choice(faults)(train, bundle, random)
    (finished,) = train.tagged(FINISHED)
    marks = Marks()
    for _, released in train.tagged(RELEASED):
        marks.release(released)
        for part in released.parts:
            marks.wrote(part)
    assert marks.until == FOREVER  # without a gap, whatever was run again
    samples = pa.concat_tables([learned.epoch.in_order() for learned in train.main()])
    return {
        "samples": samples,
        "margins": [
            margin for learned in train.main() for margin in learned.margins["click"].tolist()
        ],
        "dead": sorted(
            (row for batch in join.tagged(DEAD) for row in batch.to_pylist()),
            key=lambda row: row["__place"],
        ),
        "sha256": finished.manifests["click"]["sha256"],
        # Where impressions were found depends on what was in memory.
        "totals": replace(finished.totals, looked_up={}),
        "sums": finished.statistics["click"].table("click", "learned"),
        "bins": finished.statistics["click"].bins.tolist(),
        "joined": [batch.to_pylist() for batch in train.tagged(f"{JOINED}0")],
        "corrections": [row for batch in train.tagged(CORRECTIONS) for row in batch.to_pylist()],
    }


@pytest.fixture(scope="module")
def expected(job, tmp_path_factory):
    result = run_job(job, tmp_path_factory.mktemp("undisturbed"), [undisturbed])
    assert result["samples"].num_rows > 3_000
    assert {row["reason"] for row in result["dead"]} == {
        "duplicate", "late", "orphan", "outside_window",
    }  # fmt: skip
    return result


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_every_bundle_changes_nothing(job, expected, tmp_path, fault):
    """Samples, dead letters, predictions, model and statistics equal the undisturbed run's."""
    assert run_job(job, tmp_path, [fault], seed=1) == expected


def test_a_random_mix_of_faults_changes_nothing(job, expected, tmp_path):
    """A fault, or none, chosen at random for each bundle."""
    assert run_job(job, tmp_path, [undisturbed, *FAULTS], seed=2) == expected


def test_envelopes_that_come_early_change_nothing(job, expected, tmp_path):
    """The trainer gets them in another order than they were sent, some twice, under all faults."""
    found = run_job(job, tmp_path, [undisturbed, *FAULTS], seed=5, reach=40)
    assert found == expected


@pytest.mark.parametrize("handover", [Lagging, Threaded])
def test_learning_that_lags_behind_changes_nothing(job, expected, tmp_path, handover):
    """Epochs that are learned some envelopes later, or when a bundle ends, under all faults."""
    faults = [undisturbed, *FAULTS]
    assert run_job(job, tmp_path, faults, seed=4, handover=handover) == expected


@pytest.mark.parametrize("emission", ["window", "elapsed", "window_and_immediate"])
def test_faults_change_nothing_of_joined_actions_and_early_samples(log, tmp_path_factory, emission):
    """With retention too, under all faults."""
    job = read_job(log, tmp_path_factory, joined=True, emission=emission, retention=1_800_000_000)
    runs = [
        run_job(job, tmp_path_factory.mktemp("run"), faults, seed)
        for seed, faults in ((0, [undisturbed]), (3, [undisturbed, *FAULTS]))
    ]
    assert sum(map(len, runs[0]["joined"])) > 1_000
    assert runs[0]["corrections"]
    assert runs[1] == runs[0]


def test_ignoring_tokens_is_noticed(job, expected, tmp_path, monkeypatch):
    """If tokens were not compared, a lost commit would change outputs: the faults have effect."""
    from headrace.pipelines.beam import stepstates

    def pop_any(self, key, token):
        return stepstates._STATES.get(self.scope, {}).pop(key, ("", None))[1]

    monkeypatch.setattr(stepstates.StepStates, "pop", pop_any)
    try:
        result = run_job(job, tmp_path, [fails_after_finish], seed=1)
    except Exception:
        return
    assert result != expected
