"""What learners take from other tables of a configuration."""

import pytest

from headrace.learners.registry import parameter_models
from headrace.schemas.config.loading import parse_config
from headrace.schemas.config.models import Model
from headrace.schemas.errors import ConfigError

STREAM = {"path": "x.parquet", "key": ["id"], "time": {"column": "t", "unit": "us"}}
TREE = {
    "impressions": STREAM,
    "actions": {name: {**STREAM, "window": "10m"} for name in ("click", "buy")},
    "features": {"wide": {"categorical": ["a", "b"]}},
}


def parsed(learners, **more):
    return parse_config({**TREE, "learners": learners, **more}, "f.toml", parameter_models())


def test_a_learner_is_like_another_but_for_its_own_keys():
    """Through several steps; a group of features stands for its table."""
    learners = {
        "first": {"label": "click", "features": "wide", "alpha": 0.3, "bits": 10},
        "second": {"like": "first", "label": "buy", "filter": "click"},
        "third": {"like": "second", "alpha": 0.2, "features": {"categorical": ["c"]}},
    }
    found = parsed(learners).learners
    assert [found[name].label for name in found] == ["click", "buy", "buy"]
    assert [found[name].parameters.alpha for name in found] == [0.3, 0.3, 0.2]
    assert [found[name].filter for name in found] == [None, "click", "click"]
    assert [found[name].features.categorical for name in found] == [("a", "b"), ("a", "b"), ("c",)]
    assert {learner.bits for learner in found.values()} == {10}


class Other(Model):
    """Parameters of another algorithm."""

    steps: int = 3


def test_a_learner_of_another_algorithm_takes_the_keys_of_all_learners_alone():
    """Its parameters would be unknown keys."""
    learners = {
        "first": {"label": "click", "features": "wide", "alpha": 0.3, "bits": 10},
        "second": {"like": "first", "algorithm": "other", "steps": 5},
    }
    algorithms = {**parameter_models(), "other": Other}
    tree = {**TREE, "learners": learners}
    second = parse_config(tree, "f.toml", algorithms).learners["second"]
    assert (second.bits, second.label, second.parameters) == (10, "click", Other(steps=5))


@pytest.mark.parametrize(
    ("learners", "more", "said"),
    [
        ({"a": {"label": "click", "features": "wild"}}, {},
         "learners.a.features: no group of features has this name (got 'wild'); did you mean "
         "wide?"),
        ({"a": {"label": "click", "features": "wide"}, "b": {"like": "c"}}, {},
         "learners.b.like: no learner has this name (got 'c'); use one of a, b"),
        ({"a": {"like": "b", "features": "wide"}, "b": {"like": "a"}}, {},
         "learners.b.like: learners are like each other in a circle (got 'a'); "
         "write out the keys of one"),
        ({"a": {"label": "click"}}, {},
         "features.wide: no learner uses it; write features = \"wide\" in a learner, or leave it "
         "out"),
        ({}, {"learner": {"like": "a", "features": "wide"}},
         "learner.like: there is no other learner (got 'a'); name learners: [learners.NAME]"),
        ({"a": {"label": "click", "features": "wide", "filter": "click and a == 1"}}, {},
         "learners.a.filter: is a condition on the label itself, which nobody knows beforehand "
         "(got 'click and a == 1'); leave the label out of it"),
        ({"a": {"label": "click", "features": "wide", "filter": "a =="}}, {},
         "learners.a.filter: is not a valid condition"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_named(learners, more, said):
    """With a hint."""
    with pytest.raises(ConfigError) as raised:
        parsed(learners, **more)
    assert said in str(raised.value)
