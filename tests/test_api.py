"""The public interface, as docs/api.md describes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

LOG = """
import headrace
headrace.generate("log", impressions=3_000)
"""


def run(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_page_run(tmp_path):
    """In one process and in order; all assertions hold and nothing is printed."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    assert run("\n".join(blocks), tmp_path) == ""


def test_every_public_name_exists_and_is_documented():
    """Each has a docstring, and the functions are on the page."""
    for name in headrace.__all__:
        public = getattr(headrace, name)
        assert public.__doc__ or name.isupper(), name
    functions = [name for name in headrace.__all__ if name.islower()]
    assert len(functions) >= 8
    for name in (*functions, "FTRLClassifier", "FTRLProximalClassifier", "Scorer"):
        assert name in PAGE, name
    assert set(dir(headrace)) == set(headrace.__all__)


def test_importing_headrace_loads_no_large_package():
    """The command line imports it, and must start without delay."""
    heavy = "{'apache_beam', 'numba', 'pyarrow', 'pydantic', 'numpy', 'river'}"
    run(f"import sys, headrace; assert not {heavy} & sys.modules.keys()", ROOT)


def test_a_replay_leaves_its_process_as_it_was(tmp_path):
    """Logging, environment, signals, warnings and Beam's settings, also after an error."""
    run(
        LOG + "import logging, os, signal, threading, warnings, numpy, pyarrow, scipy.special\n"
        "from apache_beam.runners.portability.fn_api_runner import worker_handlers\n"
        "import headrace.pipelines.jobs.replay\n"
        "def settings():\n"
        "    root = logging.getLogger()\n"
        "    return (root.level, list(root.handlers), dict(os.environ), os.getcwd(),\n"
        "            signal.getsignal(signal.SIGINT), list(warnings.filters), numpy.geterr(),\n"
        "            pyarrow.default_memory_pool().backend_name, pyarrow.cpu_count(),\n"
        "            worker_handlers.STATE_CACHE_SIZE_MB)\n"
        "before = settings()\n"
        "headrace.replay('log/headrace.toml', 'out')\n"
        "assert settings() == before\n"
        "try: headrace.replay('log/headrace.toml', 'log')\n"
        "except headrace.FolderError: pass\n"
        "else: raise AssertionError\n"
        "assert settings() == before\n",
        tmp_path,
    )


def test_importing_beam_logs_nothing(tmp_path):
    """Nor does it leave a handler behind that would print what others log."""
    script = LOG + (
        "import logging\n"
        "headrace.replay('log/headrace.toml', 'out')\n"
        "root = logging.getLogger()\n"
        "assert (root.level, root.handlers) == (logging.WARNING, []), root.handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.fixture
def tables(log):
    """The configuration of the log as a mapping."""
    import tomllib

    tables = tomllib.loads((log / "headrace.toml").read_text())
    tables["impressions"]["path"] = str(log / tables["impressions"]["path"])
    tables["actions"]["click"]["path"] = str(log / tables["actions"]["click"]["path"])
    return tables


@pytest.mark.parametrize("correction", ["weight", "logit", "recalibrate"])
def test_a_model_predicts_the_rate_of_the_whole_log(tables, tmp_path, correction):
    """With every correction, the negatives that sampling dropped are accounted for."""
    tables["sampling"] = {"negative_rate": 0.2, "correction": correction}
    tables["learner"] |= {"l1": 0.0, "l2": 0.0}
    result = headrace.replay(tables, tmp_path / "out")
    model = headrace.load_model(tmp_path / "out")
    assert (model.name, model.label) == ("click", "click")
    table = result.samples.to_table()
    weight = 1 / table["sampling_rate"].to_numpy()
    rate = np.average(table["click"].to_numpy(), weights=weight)
    p = np.average(model.predict_proba(table), weights=weight)
    assert 0.1 < rate < 0.3
    assert abs(p / rate - 1) < 0.1  # ignoring what was dropped, it would be three times as much
    frames = (table.to_batches()[0], table.to_pandas(), pa.table(table))
    lengths = [model.predict_proba(frame).size for frame in frames]
    assert lengths[1:] == [table.num_rows] * 2
    np.testing.assert_array_equal(
        model.predict_proba(table.to_pandas()), model.predict_proba(table)
    )


def test_a_model_names_a_missing_column_and_a_folder_without_a_model(tables, tmp_path):
    """Both are a `HeadraceError`."""
    headrace.replay(tables, tmp_path / "out")
    model = headrace.load_model(tmp_path / "out")
    with pytest.raises(headrace.HeadraceError, match="no column device in the table"):
        model.predict_proba(pa.table({"os": ["ios"]}))
    with pytest.raises(headrace.HeadraceError, match="expected one model"):
        headrace.load_model(tmp_path / "elsewhere")


def test_the_summary_that_is_read_back_equals_the_one_returned(tables, tmp_path):
    """With corrections and joined actions; a folder without a summary is refused."""
    tables["join"] |= {"joined": True, "retention": "10m"}
    result = headrace.replay(tables, tmp_path / "out")
    assert headrace.load_result(tmp_path / "out").summary == result.summary
    assert result.corrections is not None
    assert result.joined["click"].count_rows() == result.summary.joined.actions["click"]
    with pytest.raises(headrace.FolderError, match="has no summary"):
        headrace.load_result(tmp_path)


def test_a_model_knows_the_types_of_its_log(tables, tmp_path):
    """Whole numbers that pandas made fractions are whole again; other types are refused."""
    shown = pq.read_table(tables["impressions"]["path"])
    numbers = [None if row % 7 == 0 else row % 3 for row in range(shown.num_rows)]
    pq.write_table(shown.append_column("n", pa.array(numbers)), tmp_path / "shown.parquet")
    tables["impressions"]["path"] = str(tmp_path / "shown.parquet")
    tables["learner"]["features"] = {"categorical": ["n", "device"]}
    result = headrace.replay(tables, tmp_path / "out")
    model = headrace.load_model(tmp_path / "out")
    table = result.samples.to_table()
    frame = table.to_pandas()
    assert frame["n"].dtype == "float64"
    expected = model.predict_proba(table)
    np.testing.assert_array_equal(model.predict_proba(frame), expected)
    categories = frame.astype({"device": "category"})
    np.testing.assert_array_equal(model.predict_proba(categories), expected)
    with pytest.raises(headrace.HeadraceError, match="column device must be string"):
        model.predict_proba(frame.assign(device=1))
    assert model.predict_proba(frame.assign(n=None)).shape == expected.shape


def test_a_mapping_is_no_file_in_the_way_of_a_result(tables, tmp_path, monkeypatch):
    """A result may lie in the working directory itself."""
    monkeypatch.chdir(tmp_path)
    assert headrace.replay(tables, ".").summary.samples.rows > 0


def test_replays_may_overlap(tables, tmp_path):
    """Each has its result, and Beam's settings are as before when all have ended."""
    from concurrent.futures import ThreadPoolExecutor

    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    before = worker_handlers.STATE_CACHE_SIZE_MB
    with ThreadPoolExecutor(3) as pool:
        outs = [tmp_path / str(number) for number in range(3)]
        results = list(pool.map(lambda out: headrace.replay(tables, out), outs))
    models = {result.summary.learners["click"].model.sha256 for result in results}
    assert len(models) == 1
    assert worker_handlers.STATE_CACHE_SIZE_MB == before > 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: headrace.generate(out, impressions=0),
         "impressions must be 1 or more (got 0); 2,000 are enough for a look"),
        (lambda out: headrace.generate(out, rate=-1),
         "rate must be 1 or more (got -1); 2,000 are enough for a look"),
        (lambda out: headrace.study_windows({}, coverage=2),
         "coverage must lie in (0, 1] (got 2); 0.95 is usual"),
        (lambda out: headrace.study_windows({}, longest="soon"),
         "longest must be a duration greater than zero (got 'soon'); write such as \"7d\""),
    ],
    ids=["no impressions", "a negative rate", "a coverage above one", "no duration"],
)  # fmt: skip
def test_an_impossible_argument_is_said_in_one_line(tmp_path, call, said):
    """Before anything is read or written; it is a `ValueError` too."""
    with pytest.raises(headrace.ArgumentError) as refused:
        call(tmp_path / "out")
    assert str(refused.value) == said
    assert isinstance(refused.value, ValueError)
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_version_is_refused_with_a_sentence(tmp_path):
    """As is one that is damaged."""
    (tmp_path / "summary.json").write_text('{"input": {}}')
    with pytest.raises(headrace.FolderError, match="of another version"):
        headrace.load_result(tmp_path)
