"""Commands that are told with what key a model must have been signed."""

from __future__ import annotations

import shutil

import pytest

from headrace.pipelines.app.cli import main
from headrace.pipelines.jobs import replay
from headrace.pipelines.jobs.generate import Traffic, write_traffic
from tests.pipelines.direct import run_directly

KEY = "a secret that nobody knows"


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A folder with a log, and a model that was signed with `KEY`, in two snapshots."""
    folder = tmp_path_factory.mktemp("signed")
    write_traffic(Traffic(impressions=400, rate=0.5, seed=3, click_rate=0.2), folder)
    config = folder / "headrace.toml"
    text = config.read_text().replace("bits = 20", "bits = 7")
    config.write_text(text + '[state]\nkey = { env = "OURS" }\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "run_graph", run_directly)
        patch.setattr(replay, "render_report", lambda *arguments: "")
        patch.setenv("OURS", KEY)
        out = folder / "out"
        assert main(["replay", str(config), "--out", str(out), "--quiet", "--allow-invalid"]) == 0
    (snapshot,) = (out / "model/click").glob("snapshot-*")
    shutil.copytree(snapshot, snapshot.with_name("snapshot-999999999999999"))
    return folder


COMMANDS = {
    "score": lambda model, log, new: ["score", model, log, "--out", new / "scores.csv"],
    "weights": lambda model, log, new: ["weights", model, "--values", log],
    "explain": lambda model, log, new: ["explain", model, f"{log}:1"],
    "export": lambda model, log, new: ["export", model, "--small", new / "small"],
    "rollback": lambda model, log, new: ["rollback", model.parent],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_with_a_key_refuse_models_of_others(
    signed, tmp_path, monkeypatch, capsys, command
):
    """The key is in a variable or a file; without one, a signature is passed over."""
    monkeypatch.setenv("OURS", KEY)
    monkeypatch.setenv("OTHER", KEY[::-1])
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()

    def run(*options):
        shutil.rmtree(new)
        shutil.rmtree(out, ignore_errors=True)
        new.mkdir()
        shutil.copytree(signed / "out/model/click", out)
        (model,) = (path for path in out.iterdir() if not path.name.endswith("999"))
        line = COMMANDS[command](model, signed / "impressions.parquet", new)
        code = main([*map(str, line), *map(str, options)])
        return code, capsys.readouterr().err

    assert [run(*key)[0] for key in ([], ["--key-env", "OURS"], ["--key-file", file])] == [0] * 3
    code, said = run("--key-env", "OTHER")
    assert code == 1
    assert "it is signed with another key; set" in said
    assert not list(new.iterdir())
    assert not list(out.glob("withdrawn-*"))
    assert run("--key-env", "NONE") == (
        2, "headrace: command line: --key-env: the environment has no variable NONE; set it\n",
    )  # fmt: skip
