"""A wrong configuration gives one clear line: file, key, value, hint."""

import pytest

from headrace.learners.registry import parameter_models
from headrace.schemas.config.durations import HOUR, MINUTE, SECOND
from headrace.schemas.config.loading import load_config
from headrace.schemas.errors import ConfigError

GOOD = """
[impressions]
path = "impressions.parquet"
key = ["request_id"]
time = { column = "time", unit = "us" }

[actions.click]
path = ["clicks-*.parquet", "more.parquet"]
key = ["request_id"]
time = { column = "time", unit = "us" }
window = "10m"

[join]
group = ["request_id"]

[sampling]
negative_rate = { column = "device", values = { tv = 0.5 }, default = 0.1 }

[learner]
label = "click"

[learner.features]
categorical = ["device"]
multi_valued = ["tags", { column = "words", separator = "," }]
numeric = { price = "log", age = [18, 30, 50] }
crosses = [["device", "os"]]
"""


def load(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, parameter_models())


def test_a_configuration_is_read_with_its_defaults(tmp_path):
    """Durations are microseconds, and defaults depend on each other as documented."""
    config = load(tmp_path, GOOD)
    assert config.actions["click"].window == 10 * MINUTE
    assert config.actions["click"].path == ("clicks-*.parquet", "more.parquet")
    assert config.group_span == 10 * SECOND
    assert config.settle_delay == 10 * MINUTE + 10 * SECOND
    assert config.wait_for_impression == 10 * MINUTE
    assert config.dedup_horizon == HOUR
    assert config.sampling.negative_rate.values == {"tv": 0.5}
    features = config.learner.features
    assert features.categorical == ("device",)
    assert [multi.column for multi in features.multi_valued] == ["tags", "words"]
    assert list(features.numeric) == ["price", "age"]
    assert features.crosses == (("device", "os"),)
    assert features.multi_valued[1].separator == ","
    assert features.numeric == {"price": "log", "age": (18.0, 30.0, 50.0)}


SEVERAL_LEARNERS = GOOD.replace("[learner]", "[learners.a]").replace(
    "[learner.features]",
    '[learners.b]\nlabel = "click"\nepoch = "3s"\nalpha = 0.5\n\n[learners.b.features]',
)


def test_a_single_learner_is_named_after_its_label(tmp_path):
    """The short form means exactly what `[learners.LABEL]` does."""
    short = load(tmp_path, GOOD)
    long = load(tmp_path, GOOD.replace("[learner", "[learners.click"))
    assert short.named_learners == long.named_learners == {"click": short.learner}
    assert short.learner_table("click") == "learner"
    assert long.learner_table("click") == "learners.click"


def test_several_learners_each_have_a_table(tmp_path):
    """Parameters stand beside the other keys, and the shortest epoch holds for all."""
    config = load(tmp_path, SEVERAL_LEARNERS)
    assert list(config.named_learners) == ["a", "b"]
    assert config.learners["a"].parameters.alpha == 0.1
    assert config.learners["b"].parameters.alpha == 0.5
    assert config.learners["b"].features.categorical[0] == "device"
    assert config.epoch == 3 * SECOND
    written = config.model_dump(mode="json")["learners"]["b"]
    assert list(written) == [
        "label", "algorithm", "bits", "epoch", "filter", "weight", "offset", "position", "delay",
        "start", "calibration", "table",
        "admit", "expire", "features",
        "alpha", "beta", "l1", "l2",
    ]  # fmt: skip
    assert load(tmp_path, GOOD[: GOOD.index("[learner]")]).epoch == 10 * SECOND


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[learners.a]", "[learner]",
         "learner: is given beside learners; name it too: [learners.NAME]"),
        ("[learners.a]", '[learners."a/b"]',
         "learners.a/b: names folders (got 'a/b'); use letters, digits, _ and -, such as main"),
        ("alpha = 0.5", "alpah = 0.5",
         "learners.b.alpah: unknown key (got 0.5); did you mean alpha?"),
        ("alpha = 0.5", "alpha = 0.0",
         "learners.b.alpha: input should be greater than 0 (got 0.0); "
         "use a value above 0, for a rate at most 1"),
        ("alpha = 0.5", "parameters = 0.5",
         "learners.b.parameters: unknown key (got 0.5); use one of admit, algorithm, alpha, "
         "beta, bits, calibration, delay, epoch, expire, features, filter, l1, l2, label, offset, "
         "position, start, table, weight"),
        ("alpha = 0.5", 'algorithm = "adagrad"\neta = 1',
         "learners.b.algorithm: there is no learner of this name (got 'adagrad'); "
         "use one of ffm, ftrl, probit, sgd"),
        ('epoch = "3s"', "admit = 2",
         "learners.b.admit: a hashed table knows no single feature (got 2); "
         'add table = "exact"'),
        ('epoch = "3s"', 'expire = "30d"',
         "learners.b.expire: a hashed table knows no single feature (got '30d'); "
         'add table = "exact"'),
        ('epoch = "3s"', 'table = "exact"\nexpire = "0s"',
         "learners.b.expire: features expire after more than no time (got '0s'); 30d is usual"),
        ('epoch = "3s"', 'table = "exact"\nadmit = 0',
         "learners.b.admit: input should be greater than or equal to 1 (got 0); "
         "use a greater value"),
        ('epoch = "3s"', 'table = "exakt"',
         "learners.b.table: input should be 'hashed' or 'exact' (got 'exakt'); "
         "use one of these values"),
        ('epoch = "3s"', 'epoch = "0s"',
         "learners.b.epoch: an epoch must be greater than zero (got '0s'); 10s is usual"),
        ('label = "click"\nepoch', 'label = "clik"\nepoch',
         "learners.b.label: no action stream has this name (got 'clik'); "
         "use one of click, or add [actions.clik]"),
        ('label = "click"\nepoch', "epoch", "learners.b.label: is missing; add this key"),
        ('categorical = ["device"]', 'categorial = ["device"]',
         "learners.b.features.categorial: unknown key (got ['device']); "
         "did you mean categorical?"),
    ],
    ids=["both forms", "a name with a slash", "a misspelt parameter", "a parameter out of range",
         "an unknown key", "an unknown algorithm", "admission in a hashed table",
         "expiry in a hashed table", "no time to expire", "admission before the first occurrence",
         "an unknown table", "an epoch of zero", "an unknown label",
         "no label", "a misspelt kind of feature"],
)  # fmt: skip
def test_an_error_in_a_learner_names_its_table(tmp_path, old, new, message):
    """The key path is that of the file, whatever the models look like."""
    assert old in SEVERAL_LEARNERS
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, SEVERAL_LEARNERS.replace(old, new, 1))
    assert str(caught.value) == f"{tmp_path / 'c.toml'}: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('window = "10m"', 'windw = "10m"',
         "actions.click.windw: unknown key (got '10m'); did you mean window?"),
        ("[join]", "[jion]", "jion: unknown key; did you mean join?"),
        ('window = "10m"', 'window = "0s"',
         "actions.click.window: join window must be positive (got '0s'); "
         "30m is usual for display ads"),
        ('window = "10m"', 'window = "-5m"',
         "actions.click.window: expected a duration such as 10s, 30m, 1.5h or 7d (got '-5m')"),
        ('window = "10m"', "window = 10",
         'actions.click.window: expected a duration in quotes, such as "10m" (got 10)'),
        ('window = "10m"', "", "actions.click.window: is missing; add this key"),
        ('key = ["request_id"]\ntime = { column = "time", unit = "us" }\nwindow',
         'time = { column = "time", unit = "us" }\nwindow',
         "actions.click.key: is missing; add this key"),
        ("[join]", "[guard]\nwarn = 1\n[join]",
         "guard.warn: input should be greater than 1 (got 1); use a value above 1.0"),
        ("[join]", "[guard]\nslice_disconnect = inf\n[join]",
         "guard.slice_disconnect: input should be less than or equal to 1000 (got inf); "
         "use at most 1000.0"),
        ("[join]", "[guard]\nalarm = inf\n[join]",
         "guard.alarm: input should be a finite number (got inf)"),
        ("default = 0.1", "default = 0",
         "sampling.negative_rate.default: input should be greater than 0 (got 0); "
         "use a value above 0, for a rate at most 1"),
        ("default = 0.1", "default = 1.5",
         "sampling.negative_rate.default: input should be less than or equal to 1 (got 1.5); "
         "use a rate in (0, 1]"),
        ('unit = "us" }\n\n[actions', 'unit = "min" }\n\n[actions',
         "impressions.time.unit: input should be 'ns', 'us', 'ms' or 's' (got 'min'); "
         "use one of these values"),
        ('unit = "us" }\n\n[actions', 'format = "%Y", zone = "Mars" }\n\n[actions',
         "impressions.time.zone: unknown time zone (got 'Mars'); use an IANA name such as \"UTC\""),
        ('label = "click"', 'label = "clik"',
         "learner.label: no action stream has this name (got 'clik'); "
         "use one of click, or add [actions.clik]"),
        ('group = ["request_id"]', 'group = ["session"]',
         "join.group: a group column must be part of impressions.key (got 'session'); "
         "use columns of it (request_id): actions are routed by it too"),
        ('group = ["request_id"]', 'dedup_horizon = "1m"',
         "join.dedup_horizon: is shorter than the longest window plus group_span plus early (10m) "
         "(got '1m'); raise it: a key must be remembered until no action can belong to its "
         "impression"),
        ('group = ["request_id"]', 'dedup_horizon = "10m"\nretention = "1h"',
         "join.retention: is longer than dedup_horizon (10m) (got '1h'); "
         "raise join.dedup_horizon to at least the retention"),
        ("[sampling]", '[sampling]\nunit = "group"\ncorrection = "logit"',
         'sampling.correction: cannot undo unit = "group": a negative beside a positive is '
         "always kept, so no one shift of the log-odds is right (got 'logit'); use \"weight\""),
        ("[actions.click]", '[actions."../click"]',
         "actions.../click: names a label, columns and folders (got '../click'); use letters, "
         "digits and _, a letter first, such as click"),
        ("[actions.click]", '[actions."1click"]',
         "actions.1click: names a label, columns and folders (got '1click'); use letters, "
         "digits and _, a letter first, such as click"),
        ("[actions.click]", "[actions.impressions]",
         "actions.impressions: is the name of the impression stream (got 'impressions'); choose "
         "another, such as click"),
        ('window = "10m"', 'window = "40000d"',
         "actions.click.window: is longer than a hundred years (got '40000d'); is the unit right?"),
        ("[join]\n", "[join]\nshards = 100000\n",
         "join.shards: input should be less than or equal to 4096 (got 100000); use at most 4096"),
        ("[join]\n", "[join]\nelapsed = [0.5, 1.5]\n",
         "join.elapsed.1: input should be less than or equal to 1 (got 1.5); use at most 1.0"),
        ('categorical = ["device"]', "categorical = 5",
         "learner.features.categorical: expected a list (got 5); write such as [\"a\", \"b\"]"),
        ("[sampling]", '[actions.Click]\npath = "c"\nkey = ["k"]\nwindow = "1m"\n'
         'time = { column = "t", unit = "s" }\n[sampling]',
         "actions.Click: differs from click by case alone; choose another name: folders have these "
         "names, and macOS and Windows do not tell them apart"),
        ("[join]", "[join", "is not valid TOML: Expected"),
    ],
    ids=["a misspelt key", "a misspelt table", "a window of zero", "a negative window",
         "a window without quotes", "no window", "no key", "a band of nothing",
         "a band without end", "no false alarm ever", "a rate of zero", "a rate above one",
         "an unknown unit", "an unknown zone", "an unknown label", "a group outside the key",
         "a horizon below the window", "a retention beyond the horizon", "groups with logit",
         "a stream name with a slash", "a stream name that begins with a digit",
         "a reserved stream name", "a window longer than a century",
         "too many shards", "a part of more than one", "a number for a list",
         "stream names that differ by case",
         "not TOML"],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, old, new, message):
    """File, key path, value and hint are all in the one line."""
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    said = str(caught.value)
    if "TOML" in message:
        assert message in said
    else:
        assert said == f"{tmp_path / 'c.toml'}: {message}"
    assert "\n" not in said


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    """The error has the reason that the operating system gives."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.toml", {})
    assert (
        str(caught.value) == f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory)"
    )


def test_learners_whose_names_differ_by_case_are_refused(tmp_path):
    """Their models would be in one folder."""
    text = SEVERAL_LEARNERS.replace("[learners.b", "[learners.A")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert (caught.value.key, caught.value.fact) == ("learners.A", "differs from a by case alone")


def test_one_name_may_stand_for_a_list_of_one(tmp_path):
    """Wherever names are listed, as for a key."""
    text = GOOD.replace("[impressions]\n", '[impressions]\nnull_values = "-"\ncolumns = "a"\n')
    config = load(tmp_path, text)
    assert config.impressions.null_values == ("-",)
    assert config.impressions.columns == ("a",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = " + "[" * 50_000, "is nested too deeply"),
        ("a = " + "{b = " * 20_000, "is nested too deeply"),
        ("a" + ".b" * 100_000 + " = 1", "is nested too deeply"),
        ("a" + '. "b c"' * 100_000 + " = 1", "is nested too deeply"),
        ("a = " + "9" * 10_000, "is not valid TOML: Exceeds the limit"),
        ("a = '" + "x" * (1 << 20) + "'", "is larger than 1,048,576 bytes"),
        ("a = '" + "x" * 100_000 + "'", "a: unknown key (got 'xxxxx"),
    ],
    ids=["lists", "tables", "a key", "a quoted key", "a number", "a file", "a value"],
)
def test_a_file_of_any_size_gives_one_short_line(tmp_path, text, says):
    """In bounded time and memory: tomllib alone takes gigabytes for a key of many parts."""
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, parameter_models())
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000
