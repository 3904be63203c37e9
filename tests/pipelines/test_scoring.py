"""Models outside of a run: scores, weights and explanations of rows in files."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.pipelines.app import scoring
from headrace.pipelines.app.cli import main
from headrace.schemas.config.durations import SECOND

START, N = 1_767_225_600 * SECOND, 600
LEARNERS = ("ftrl", "sgd", "probit", "ffm")
EXACT = ("ftrl", "probit", "ffm")
"""Also with an exact table."""


def shown(rows=N):
    random = np.random.default_rng(1)
    return pa.table(
        {
            "id": [f"i{n}" for n in range(rows)],
            "time": START + np.arange(rows) * SECOND,
            "site": pa.array(random.choice(["a", "b,c", 'q"', "Zürich"], rows)),
            "n": pa.array([None if n % 7 == 0 else n % 5 for n in range(rows)]),
            "tags": pa.array([["x", "y"][: n % 3] if n % 11 else None for n in range(rows)],
                             pa.list_(pa.string())),
            "price": pa.array(random.normal(size=rows)),
            "shift": pa.array([None if n == 13 else n % 3 / 2 for n in range(rows)]),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    table = shown()
    clicked = np.random.default_rng(2).random(N) < 0.4
    clicks = {"id": table["id"].filter(clicked), "time": table["time"].filter(clicked)}
    pq.write_table(table, folder / "shown.parquet")
    pq.write_table(pa.table(clicks), folder / "clicks.parquet")

    def stream(name):
        time = {"column": "time", "unit": "us"}
        return {"path": str(folder / f"{name}.parquet"), "key": "id", "time": time}

    features = {
        "categorical": ["site", "n"], "multi_valued": ["tags"], "numeric": {"price": "linear"},
        "crosses": [["site", "tags"]],
    }  # fmt: skip
    tables = {
        "impressions": stream("shown"),
        "actions": {"click": {**stream("clicks"), "window": "1m"}},
        "join": {"end_of_log": "close"},
        "sampling": {
            "negative_rate": {"column": "n", "values": {"1": 0.5, "2": 0.8}},
            "keep": "price > 2", "correction": "recalibrate",
        },
        "features": {"all": features},
        "learners": {
            name: {"label": "click", "algorithm": name, "features": "all", "bits": 10}
            for name in LEARNERS
        },
    }  # fmt: skip
    for name in EXACT:
        tables["learners"][f"exact_{name}"] = {
            "label": "click", "algorithm": name, "features": "all", "table": "exact", "admit": 20,
        }  # fmt: skip
    tables["learners"]["shifted"] = {**tables["learners"]["ftrl"], "offset": "shift"}
    return headrace.replay(tables, folder / "out")


def json_lines(table):
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist())


def csv_lines(table):
    def cell(value):
        if value is None:
            return ""
        text = json.dumps(value) if isinstance(value, list) else str(value)
        quoted = text.replace('"', '""')
        return f'"{quoted}"' if set(text) & set(',"') else text

    lines = [",".join(table.column_names)]
    lines += [",".join(cell(value) for value in row.values()) for row in table.to_pylist()]
    return "\n".join(lines) + "\n"


@pytest.fixture(params=["parquet", "csv", "jsonl"])
def rows(request, tmp_path):
    path = tmp_path / f"rows.{request.param}"
    if request.param == "parquet":
        pq.write_table(shown(), path, row_group_size=100)
    else:
        path.write_text(csv_lines(shown()) if request.param == "csv" else json_lines(shown()))
    return path


@pytest.mark.parametrize("name", LEARNERS)
def test_scores_are_the_predictions_of_the_model(result, rows, tmp_path, name):
    """To the bit, in the order of the rows and beside their columns, whatever the format."""
    model = headrace.load_model(result.models[name])
    scored = headrace.score(result.models[name], rows, tmp_path / "out.parquet")
    assert (scored.rows, scored.scored, scored.findings) == (N, N, [])
    found = pq.read_table(tmp_path / "out.parquet")
    more = ["p", "margin"] + ["uncertainty"] * (name != "ffm")
    assert found.column_names == [*shown().column_names, *more]
    expected = model.predict_proba(shown())
    np.testing.assert_array_equal(found["p"], expected)
    np.testing.assert_allclose(1 / (1 + np.exp(-found["margin"].to_numpy())), expected)
    assert found["id"].to_pylist() == shown()["id"].to_pylist()
    assert found["tags"].to_pylist() == shown()["tags"].to_pylist() or rows.suffix == ".csv"
    if name != "ffm":
        told = model.uncertainty(model.prepare(shown()))
        np.testing.assert_array_equal(found["uncertainty"], told)


@pytest.mark.parametrize("size", [1, 7, 256])
@pytest.mark.parametrize("explain", [0, 3])
def test_scores_do_not_depend_on_how_rows_are_read(result, tmp_path, monkeypatch, size, explain):
    """Nor do the reasons given."""
    pq.write_table(shown(), tmp_path / "rows.parquet")
    model = result.models["ffm"]
    headrace.score(model, tmp_path / "rows.parquet", tmp_path / "whole.parquet", explain=explain)
    for name in ("ROWS", "ROWS_EXPLAINED"):
        monkeypatch.setattr(scoring, name, size)
    headrace.score(model, tmp_path / "rows.parquet", tmp_path / "cut.parquet", explain=explain)
    whole, cut = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("whole", "cut"))
    assert whole == cut
    assert ("why" in whole.column_names) == bool(explain)


def test_the_file_has_the_format_of_its_name(result, tmp_path):
    """In text, lists are JSON, and numbers are read back as they were."""
    pq.write_table(shown(3), tmp_path / "rows.parquet")
    for name in ("out.parquet", "out.csv", "out.jsonl.gz"):
        headrace.score(result.models["sgd"], tmp_path / "rows.parquet", tmp_path / name, explain=1)
    table = pq.read_table(tmp_path / "out.parquet")
    lines = gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == table.to_pylist()
    head, first, *_ = (tmp_path / "out.csv").read_text().splitlines()
    assert head == '"id","time","site","n","tags","price","shift","p","margin","uncertainty","why"'
    row = table.slice(0, 1).to_pylist()[0]
    why = json.dumps(row["why"]).replace('"', '""')
    assert first.endswith(
        f'{row["p"]},{row["margin"]},{row["uncertainty"]},"{why}"'.replace(", ", ",")
    )


def test_what_cannot_be_read_is_counted_and_left_out(result, tmp_path, capsys):
    """With an example; more than a fifth is an exit code of its own, unless it is allowed."""
    lines = json_lines(shown(4)).splitlines()
    lines[1] = lines[1].replace('"n": 1', '"n": "dear"')
    lines[2] = "{broken"
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    command = ["score", str(result.models["ftrl"]), str(tmp_path / "rows.jsonl"), "--out"]
    assert main([*command, str(tmp_path / "out.jsonl")]) == 3
    printed = capsys.readouterr()
    assert printed.out == f"3 of 4 rows scored: {tmp_path / 'out.jsonl'}\n"
    first, second = printed.err.splitlines()
    assert first.startswith("headrace: 1 of 4 rows are undecodable, and left out (such as row 2 of")
    assert first.endswith("{broken)")
    assert second == 'headrace: 1 values of n are not int64 (such as "dear"), and count as null'
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["n"]) for row in found] == [("i0", None), ("i1", None), ("i3", 3)]
    assert main([*command, str(tmp_path / "more.jsonl"), "--allow-invalid"]) == 0


def test_a_row_without_the_offset_has_no_score(result, tmp_path):
    """And is told; numbers in text are numbers."""
    (tmp_path / "rows.csv").write_text(csv_lines(shown(20)))
    model = headrace.load_model(result.models["shifted"])
    scored = headrace.score(model, tmp_path / "rows.csv", tmp_path / "out.parquet")
    assert (scored.rows, scored.scored) == (20, 19)
    assert scored.findings == ["1 rows have no score: the learner's offset is missing"]
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["p"].is_null().to_pylist() == [n == 13 for n in range(20)]
    expected = model.predict_proba(shown(20))
    np.testing.assert_array_equal(found["p"].to_numpy(), expected)


def test_what_is_in_the_way_is_said_before_anything_is_written(result, tmp_path, capsys):
    """One line each, and exit code 2 or, of tables and models, 1."""
    pq.write_table(shown(3), tmp_path / "rows.parquet")
    pq.write_table(shown(3).drop_columns("site"), tmp_path / "less.parquet")
    pq.write_table(shown(3).append_column("p", pa.array([1, 2, 3])), tmp_path / "more.parquet")
    other = shown(3).set_column(2, "site", pa.array([1, 2, 3]))
    pq.write_table(other, tmp_path / "other.parquet")
    (tmp_path / "rows.txt").write_text("x")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "there.csv").write_text("mine")
    model = str(result.models["ftrl"])
    before = sorted(path.name for path in tmp_path.iterdir())
    cases = [
        (model, "rows.parquet", "there.csv", 2, "there.csv: is there already; name another"),
        (model, "rows.parquet", "out.xlsx", 2, "has a name that does not show its format"),
        (model, "rows.parquet", "no/out.csv", 1, "cannot be written"),
        (model, "none.parquet", "out.csv", 2, "none.parquet: no such file; paths are relative to"),
        (model, "rows.txt", "out.csv", 2, "does not show its format; give --format"),
        (model, "empty.jsonl", "out.csv", 2, "has no rows from which its columns could be known"),
        (model, "less.parquet", "out.csv", 1, "no column site in the table (got id, time, n,"),
        (model, "more.parquet", "out.csv", 2, "has a column p, where the prediction would be"),
        (model, "other.parquet", "out.csv", 1, "column site must be string, as in the log (got"),
        (str(tmp_path), "rows.parquet", "out.csv", 1, "expected one model (got none)"),
    ]
    for where, rows, out, code, said in cases:
        command = ["score", where, str(tmp_path / rows), "--out", str(tmp_path / out)]
        assert (main(command), said) == (code, said)
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_truncated_file_leaves_no_scores(result, tmp_path, capsys):
    """Neither under the name of the file nor under a hidden one."""
    pq.write_table(shown(), tmp_path / "rows.parquet", row_group_size=100)
    whole = bytearray((tmp_path / "rows.parquet").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)
    (tmp_path / "rows.parquet").write_bytes(whole)
    command = ["score", str(result.models["ftrl"]), str(tmp_path / "rows.parquet")]
    assert main([*command, "--out", str(tmp_path / "out.csv")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "unreadable after record" in line
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("name", [*LEARNERS, "shifted", *(f"exact_{name}" for name in EXACT)])
def test_an_explanation_adds_up_to_the_prediction(result, tmp_path, capsys, name):
    """With offset, correction for sampling and pairs; of a file or of a JSON object."""
    pq.write_table(shown(), tmp_path / "rows.parquet")
    row = shown().slice(8, 1)
    model = headrace.load_model(result.models[name])
    folder = str(result.models[name])
    found = []
    for what in (json.dumps(row.to_pylist()[0]), f"{tmp_path}/rows.parquet:8"):
        assert main(["explain", folder, what, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    said = found[0]
    assert said["p"] == model.predict_proba(row)[0]
    total = 0.0
    for term in said["terms"]:
        total += term["contribution"]
    assert total + said["rest"] == said["margin"]
    algorithm = name.removeprefix("exact_")
    # Factors are multiplied in 32 bits.
    assert abs(said["rest"]) < {"probit": 1e-14, "ffm": 1e-7}.get(algorithm, 1e-300)
    names = [term["name"] for term in said["terms"]]
    assert names[:3] == ["intercept", "site=b,c", "n=3"] or names[1].startswith("site=")
    assert ("offset" in names) == (name == "shifted")
    assert any(" & " in one for one in names) == (algorithm == "ffm")
    assert names[-1] == "correction for sampling"
    assert (said["uncertainty"] is None) == (algorithm == "ffm")
    for term in said["terms"]:
        if term["weight"] is not None and algorithm != "probit":
            assert term["contribution"] == pytest.approx(term["weight"] * term["value"], rel=1e-6)
    scored = headrace.score(model, tmp_path / "rows.parquet", tmp_path / "out.parquet", explain=100)
    assert scored.rows == N
    why = pq.read_table(tmp_path / "out.parquet")["why"][8].as_py()
    moving = [term for term in said["terms"][1:] if term["contribution"]
              and term["name"] not in ("offset", "correction for sampling")]  # fmt: skip
    moving.sort(key=lambda term: -abs(term["contribution"]))
    assert why == [f"{term['name']}:{term['contribution']:+.3g}" for term in moving]


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ('{"site": "a"}', 1, "no column n in the row (got site); write null if it has none"),
        ("{broken", 1, "the row is not a JSON object (got {broken)"),
        ("nonsense", 2, "expected a row, a JSON object or FILE:N (got 'nonsense')"),
        ("ROWS:9", 1, "has no row 9 (got 3 rows, counted from 0)"),
    ],
)
def test_a_row_that_is_none_is_refused(result, tmp_path, capsys, what, code, said):
    pq.write_table(shown(3), tmp_path / "rows.parquet")
    what = what.replace("ROWS", str(tmp_path / "rows.parquet"))
    assert main(["explain", str(result.models["sgd"]), what]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_result_is_no_model_to_explain_a_row_with(result, capsys):
    """Its rows are explained in another way."""
    assert main(["explain", str(result.out), "{}"]) == 2
    assert "name the folder of a model" in capsys.readouterr().err


def test_a_value_that_does_not_fit_is_told(result, capsys):
    row = shown(1).to_pylist()[0] | {"n": "dear"}
    assert main(["explain", str(result.models["sgd"]), json.dumps(row)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "headrace: n is not int64, and counts as null\n"
    assert "n is null" in printed.out


def weights(capsys, *command):
    assert main(["weights", *map(str, command), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_largest_weights_have_the_names_of_their_samples(result, capsys):
    """Those of the result beside the model, unless other rows are given."""
    model = headrace.load_model(result.models["ftrl"])
    found = weights(capsys, result.models["ftrl"], "--top", 1000)
    learned = model.learner.weights()
    assert found["coordinates"] == len(found["largest"]) == model.learner.figures()["coordinates"]
    assert (found["unnamed"], found["unnamed_magnitude"]) == (0, 0)
    for weight in found["largest"]:
        assert weight["weight"] == learned[weight["index"]]
    magnitudes = [abs(weight["weight"]) for weight in found["largest"]]
    assert magnitudes == sorted(magnitudes, reverse=True)
    names = [name for weight in found["largest"] for name in weight["names"]]
    assert len(set(names)) == len(names)
    assert {"intercept", "site=Zürich", "n is null", "tags=y", "price", "site*tags=a*x"} <= {*names}
    some = weights(capsys, result.models["ftrl"], "--like", "site=", "--top", 2)
    assert [name[:5] for weight in some["largest"] for name in weight["names"]] == ["site="] * 2


@pytest.mark.parametrize("name", [f"exact_{name}" for name in EXACT])
def test_an_exact_table_has_a_weight_for_each_feature_that_is_admitted(result, capsys, name):
    """By its code, in full; none is shared, and what waits for admission has none."""
    model = headrace.load_model(result.models[name])
    found = weights(capsys, result.models[name], "--top", 1000)
    codes = model.learner.export()["code"].tolist()
    assert sorted(weight["index"] for weight in found["largest"]) == sorted(codes)
    assert (found["unnamed"], found["shared"]) == (0, 0)
    assert all(len(weight["names"]) == 1 for weight in found["largest"])
    by_name = {weight["names"][0]: weight["weight"] for weight in found["largest"]}
    row = shown().slice(8, 1).to_pylist()[0]
    assert main(["explain", str(result.models[name]), json.dumps(row), "--json"]) == 0
    for term in json.loads(capsys.readouterr().out)["terms"]:
        if term["weight"] is not None:
            assert term["weight"] == by_name.get(term["name"], 0)


def test_what_has_no_name_is_counted_and_collisions_are_shown(result, tmp_path, capsys):
    """Also in the table."""
    some = shown().filter(pa.array([site == "a" for site in shown()["site"].to_pylist()]))
    pq.write_table(some, tmp_path / "rows.parquet")
    found = weights(
        capsys, result.models["ftrl"], "--values", tmp_path / "rows.parquet", "--top", 1000
    )
    unnamed = [weight for weight in found["largest"] if not weight["names"]]
    assert len(unnamed) == found["unnamed"] > 0
    assert found["unnamed_magnitude"] == pytest.approx(sum(abs(one["weight"]) for one in unnamed))
    assert 0 < found["unnamed_magnitude"] < found["magnitude"]
    assert main(["weights", str(result.models["ftrl"]), "--values",
                 str(tmp_path / "rows.parquet")]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "(no name)" in said
    assert f"{found['unnamed']:,} of {found['coordinates']:,} coordinates have no name" in said


def test_two_names_of_one_coordinate_are_both_shown(result, tmp_path, capsys):
    """Values are chosen so that they collide with one that was learned."""
    from headrace.learners.features import FeatureEncoder

    model = headrace.load_model(result.models["sgd"])
    (wanted,) = {
        int(model.encoder.encode(batch).indices[1]) for batch in [model.prepare(shown(1)).batch]
    }
    site = shown()["site"][0].as_py()
    many = pa.table({"site": [f"s{n}" for n in range(5_000)]}).combine_chunks().to_batches()[0]
    features = type(model.encoder.features)(categorical=("site",))
    indices = FeatureEncoder(features, 10).encode(many).indices[1::2]
    (twin, *_) = np.flatnonzero(indices == wanted)
    rows = shown(2).to_pylist()
    rows[1]["site"] = f"s{twin}"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = weights(
        capsys, result.models["sgd"], "--values", tmp_path / "rows.jsonl", "--top", 1000
    )
    (shared,) = [one for one in found["largest"] if one["index"] == wanted]
    assert {f"site={site}", f"site=s{twin}"} <= {*shared["names"]}
    assert found["shared"] >= 1


def exported(capsys, *command):
    assert main(["export", *map(str, command)]) == 0
    return capsys.readouterr()


def test_samples_are_written_for_vowpal_wabbit(result, tmp_path, capsys):
    """With their labels and what they count for, from the result beside the model."""
    samples = result.samples.to_table()
    printed = exported(capsys, result.models["sgd"], "--vw", tmp_path / "a.vw")
    count = samples.num_rows
    assert printed.out == f"{count} of {count} rows written: {tmp_path / 'a.vw'}\n"
    lines = (tmp_path / "a.vw").read_text().splitlines()
    assert len(lines) == count
    heads = [line.partition("|")[0] for line in lines]
    assert heads == [f"{'1' if click else '-1'} 1 " for click in samples["click"].to_pylist()]
    printed = exported(capsys, result.models["shifted"], "--vw", tmp_path / "b.vw.gz")
    lines = gzip.decompress((tmp_path / "b.vw.gz").read_bytes()).decode().splitlines()
    shift = samples["shift"].to_pylist()
    assert len(lines) == count - shift.count(None)
    assert {float(line.split()[2]) for line in lines} == set(shift) - {None}
    assert main(["export", str(result.models["sgd"]), "--vw", str(tmp_path / "a.vw")]) == 2


def test_rows_of_a_log_are_written_without_what_they_lack(result, tmp_path, capsys):
    """Labels in text are read as such; rows that cannot be learned are told."""
    rows = [{**row, "click": click, "weight": weight} for row, click, weight in zip(
        shown(4).to_pylist(), ("true", "0", "perhaps", "1"), (2, 0.5, 1, -1), strict=True
    )]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    command = ("--values", tmp_path / "rows.jsonl", "--vw", tmp_path / "out.vw")
    printed = exported(capsys, result.models["ftrl"], *command)
    assert [line.partition("|")[0] for line in (tmp_path / "out.vw").read_text().splitlines()] == [
        "1 2 ", "-1 0.5 ", "",
    ]  # fmt: skip
    assert printed.out == f"3 of 5 rows written: {tmp_path / 'out.vw'}\n"
    assert printed.err.splitlines() == [
        "headrace: 1 of 5 rows cannot be read, and are left out",
        "headrace: 1 of 5 rows lack a weight or an offset, or have a weight below zero, and are "
        "left out",
    ]
    plain = shown(2)
    pq.write_table(plain, tmp_path / "plain.parquet")
    command = ("--values", tmp_path / "plain.parquet", "--vw", tmp_path / "plain.vw")
    exported(capsys, result.models["ftrl"], *command)
    assert all(line.startswith("|site ") for line in (tmp_path / "plain.vw").open())


def test_a_linear_model_is_written_for_onnx(result, tmp_path, capsys):
    """What is none is refused."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    exported(capsys, result.models["ftrl"], "--onnx", tmp_path / "model.onnx")
    model = headrace.load_model(result.models["ftrl"])
    prediction = model.prepare(shown())
    features = prediction.features
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    margin, p = session.run(
        ["margin", "p"],
        {"starts": features.starts, "indices": features.indices.astype(np.int64),
         "values": features.values, "shift": prediction.shift},
    )  # fmt: skip
    np.testing.assert_array_equal(margin, prediction.margin)
    np.testing.assert_allclose(p, prediction.p, rtol=1e-14)
    assert session.get_modelmeta().custom_metadata_map["learner"] == "ftrl"
    assert main(["export", str(result.models["ffm"]), "--onnx", str(tmp_path / "no.onnx")]) == 2
    assert capsys.readouterr().err == (
        "headrace: learner is not linear (got 'ffm'); ONNX is written of ftrl and sgd\n"
    )
    assert not (tmp_path / "no.onnx").exists()


def test_without_onnx_the_error_says_what_to_install(result, tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(result.models["sgd"]), "--onnx", str(tmp_path / "no.onnx")]) == 2
    assert "needs onnx, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ftrl", "probit", "exact_ftrl", "shifted"])
def test_a_small_model_predicts_much_as_the_one_it_was_made_of(result, tmp_path, capsys, name):
    """Wherever a model can be named, with its offset and correction."""
    model, folder = headrace.load_model(result.models[name]), tmp_path / "small"
    printed = exported(capsys, result.models[name], "--small", folder)
    small = headrace.load_model(folder)
    count, bits = small.learner.figures()["coordinates"], small.learner.fraction_bits
    assert printed.out == f"{folder}: learner {name}, {count} weights in steps of 2^{-bits}\n"
    assert small.manifest["shrunk_from"] == model.manifest["sha256"]
    assert small.manifest["positions"] == model.manifest["positions"]
    ours, theirs = small.predict_proba(shown()), model.predict_proba(shown())
    np.testing.assert_allclose(ours, theirs, atol=0.02 if name == "probit" else 0.001)
    with headrace.Scorer(folder) as scorer:
        np.testing.assert_array_equal(scorer.predict_proba(shown()), ours)
    pq.write_table(shown(), tmp_path / "rows.parquet")
    headrace.score(folder, tmp_path / "rows.parquet", tmp_path / "out.parquet", explain=2)
    scored = pq.read_table(tmp_path / "out.parquet")
    np.testing.assert_array_equal(scored["p"].to_numpy(), ours)
    assert scored.column_names[-3:] == ["p", "margin", "why"]
    row = json.dumps(shown().slice(8, 1).to_pylist()[0])
    assert main(["explain", str(folder), row, "--json"]) == 0
    assert abs(json.loads(capsys.readouterr().out)["rest"]) < 1e-12


def test_what_cannot_be_made_small_is_refused(result, tmp_path, capsys):
    """In one line, and nothing is written."""
    (tmp_path / "there").mkdir()
    exported(capsys, result.models["sgd"], "--small", tmp_path / "small")
    for model, out, code, said in (
        (result.models["ffm"], tmp_path / "a", 2, "has more than a weight for each feature"),
        (tmp_path / "small", tmp_path / "a", 2, "is small already"),
        (result.models["sgd"], tmp_path / "there", 2, "is there already; name another"),
        (result.models["sgd"], "s3://bucket/small", 2, "is not of this machine; name a folder"),
    ):
        assert main(["export", str(model), "--small", str(out)]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "there"]
    (tmp_path / "file").write_text("")
    assert main(["export", str(result.models["sgd"]), "--small", str(tmp_path / "file" / "a")]) == 1
    assert "cannot be written" in capsys.readouterr().err
