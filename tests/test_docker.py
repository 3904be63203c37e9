"""The files for containers: nothing of them can run here, so their form is checked."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from headrace.pipelines.beam.launching import options_of

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DEPLOYMENT = yaml.safe_load((DOCKER / "flink" / "deployment.yaml").read_text())


def test_the_compose_file_has_the_form_of_the_specification():
    """By the schema that comes with check-jsonschema; no network is asked."""
    pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(DOCKER / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ports_are_open_on_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_services_name_exists():
    """Other services, volumes, files, and the stages of the image."""
    stages = re.findall(r"^FROM \S+ AS (\w+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        of, _, name = service.get("network_mode", "").partition(":")
        assert not of or name in SERVICES
        build = service.get("build")
        if build is not None:
            assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
            assert build.get("target", "worker") in stages
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith(".") else (
                source in COMPOSE["volumes"]
            )  # fmt: skip


def test_the_broker_has_the_version_of_the_tests():
    pom = (DOCKER / "kafka" / "pom.xml").read_text()
    version = re.search(r"<kafka.version>(.+)</kafka.version>", pom)[1]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_the_traffic_is_a_command_that_this_version_has():
    """It parses; it ends only because there is no such broker here."""
    command = SERVICES["traffic"]["command"].split()
    folder = command.index("--out") + 1
    command = [*command[:folder], os.devnull, *command[folder + 1 :]]
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == f"headrace: {os.devnull}: is not a folder; choose a folder\n"


def test_the_run_serves_metrics_where_prometheus_asks():
    """It is a command that this version has; it ends only because there is no configuration."""
    command = SERVICES["headrace"]["command"].split()
    assert command[command.index("--metrics-port") + 1] == "9108"
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("headrace: /data/live/headrace.toml: cannot be read")


def test_prometheus_asks_headrace_and_grafana_asks_prometheus():
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target
        for job in scraped["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert targets == ["headrace:9108"]
    folder = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards" / "headrace.yaml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]


def test_the_image_copies_what_exists_and_workers_have_the_beam_that_is_installed():
    dockerfile = (DOCKER / "Dockerfile").read_text()
    installed = re.search(r"^apache-beam==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert f"apache/beam_python3.11_sdk:{installed}" in dockerfile
    assert (
        f"BEAM_IMAGE:-apache/beam_python3.11_sdk:{installed}"
        in (DOCKER / "compose.yaml").read_text()
    )
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split()), source


def test_the_image_installs_the_tested_versions_by_checksum_and_runs_as_nobody_special():
    """What `setup.py` needs is among them; no other file is taken."""
    lock = (DOCKER / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.MULTILINE))
    assert len(locked) == lock.count("==")
    assert all(
        "--hash=sha256:" in of for of in re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    )
    tested = (ROOT / "constraints.txt").read_text()
    names = re.findall(r"^([\w.-]+)==(\S+)$", tested, re.MULTILINE)
    versions = {normal(name): version for name, version in names}
    assert {name: versions[normal(name)] for name in locked} == locked
    setup = (ROOT / "setup.py").read_text()
    needed = setup[setup.index("KAFKA = [") : setup.index('"onnx": [')]
    wanted = re.findall(r'"([a-zA-Z][\w-]+)(?:>=|==)', needed)
    assert wanted
    assert {normal(name) for name in wanted} <= {normal(name) for name in locked}
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert dockerfile.count("pip install") == 2
    assert "--require-hashes --no-deps -r requirements.lock" in dockerfile
    assert "--no-index ." in dockerfile
    assert re.search(r"^USER headrace$", dockerfile, re.MULTILINE)


def normal(name):
    """Return a package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_services_of_headrace_can_write_their_data_alone():
    """They have no rights of root, and a filesystem that cannot be written."""
    own = [service for service in SERVICES.values() if service.get("image") == "headrace"]
    assert own
    for service in own:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]


def flags():
    """Return the flags of the submit script."""
    text = (DOCKER / "flink" / "submit.sh").read_text()
    assert subprocess.run(["sh", "-n", str(DOCKER / "flink" / "submit.sh")]).returncode == 0
    return re.findall(r"--[a-z_]+(?:=[^\s}]+)?", text[text.index("set -- ") : text.index("exec")])


def test_the_submit_command_passes_its_flags_to_the_runner(tmp_path):
    """Beam drops those it does not know without a word, unless it retains unknown ones."""
    fake = tmp_path / "headrace"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    script = DOCKER / "flink" / "submit.sh"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PARALLELISM": "5"}
    for savepoint in ([], ["s3://b/savepoint 1"]):
        done = subprocess.run(
            [str(script), "a b.toml", "out", *savepoint], env=environment, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        passed = done.stdout.splitlines()
        assert passed[:7] == ["stream", "a b.toml", "--out", "out", "--runner", "flink", "--"]
        whole = PipelineOptions(options_of("flink", passed[7:], until_end=False))
        options = whole.get_all_options(retain_unknown_options=True)
        assert options["parallelism"] == 5
        assert options["environment_config"] == "127.0.0.1:50000"
        assert options["streaming"] is True
        assert options["finish_bundle_before_checkpointing"] is True
        assert options["externalized_checkpoints_enabled"] is True
        assert str(options["checkpointing_interval"]) == "2000"
        assert str(options["max_bundle_time_mills"]) == "10"
        assert options.get("savepoint_path") == (savepoint[0] if savepoint else None)


def test_the_guide_has_every_flag_of_the_submit_command():
    page = (ROOT / "docs" / "deploy-flink.md").read_text(encoding="utf-8")
    named = {flag.partition("=")[0] for flag in flags()}
    assert len(named) > 10
    assert named <= set(re.findall(r"--[a-z_]+", page))


def test_beam_knows_every_flag_of_the_command_for_dataflow():
    """It drops those that it does not know."""
    page = (ROOT / "docs" / "deploy-dataflow.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^headrace stream .*?^```", page, re.MULTILINE | re.DOTALL)
    given = shlex.split(command.removesuffix("```").replace("\\\n", " ").partition(" -- ")[2])
    options = PipelineOptions(given)
    known, all_of = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
    assert len(given) > 12
    assert known == all_of
    assert known["sdk_location"] == "container"


def test_the_deployment_has_the_form_that_the_operator_takes():
    """Field names, types and enumerations of the resource definition, as far as they are used."""
    assert DEPLOYMENT["apiVersion"] == "flink.apache.org/v1beta1"
    assert DEPLOYMENT["kind"] == "FlinkDeployment"
    spec = DEPLOYMENT["spec"]
    assert spec.keys() <= {
        "image", "imagePullPolicy", "flinkVersion", "serviceAccount", "flinkConfiguration",
        "podTemplate", "jobManager", "taskManager", "job", "mode", "ingress", "logConfiguration",
        "restartNonce",
    }  # fmt: skip
    assert spec["flinkVersion"] == "v1_20"
    assert all(isinstance(value, str) for value in spec["flinkConfiguration"].values())
    for part in ("jobManager", "taskManager"):
        assert spec[part].keys() <= {"replicas", "resource", "podTemplate"}
        assert spec[part]["resource"].keys() == {"cpu", "memory"}
        assert isinstance(spec[part]["resource"]["cpu"], int)
        assert re.fullmatch(r"\d+m", spec[part]["resource"]["memory"])


def test_flink_has_one_version_everywhere():
    image = DEPLOYMENT["spec"]["image"]
    assert {SERVICES[name]["image"] for name in ("jobmanager", "taskmanager")} == {image}
    (main,) = DEPLOYMENT["spec"]["podTemplate"]["spec"]["containers"]
    version = re.match(r"flink:([\d.]+)-", image)[1]
    assert main["env"][0]["value"] == f"flink-s3-fs-presto-{version}.jar"
    assert f"--flink_version={version.rpartition('.')[0]}" in flags()


def worker_pool():
    spec = importlib.util.spec_from_file_location("pool", DOCKER / "flink" / "worker_pool.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_clusters_start_the_pool_beside_the_task_manager():
    (sidecar,) = DEPLOYMENT["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    assert sidecar["command"] == SERVICES["worker-pool"]["entrypoint"]
    assert SERVICES["worker-pool"]["network_mode"] == "service:taskmanager"
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert f"COPY docker/flink/worker_pool.py {sidecar['command'][1]}" in dockerfile


def test_the_pool_starts_workers_and_listens_on_the_loopback_interface_alone(tmp_path):
    """A worker is started with the endpoints that the runner names."""
    started = tmp_path / "started"
    boot = tmp_path / "boot"
    boot.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {started}.new; mv {started}.new {started}\n')
    boot.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, str(DOCKER / "flink" / "worker_pool.py"), "--port", "0", "--boot",
         str(boot)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(re.fullmatch(r"worker pool on 127.0.0.1:(\d+)\n", process.stdout.readline())[1])
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
            request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
            request.control_endpoint.url = "localhost:4711"
            assert stub.StartWorker(request, timeout=30).error == ""
            until = time.monotonic() + 30
            while not started.exists():
                assert time.monotonic() < until
                time.sleep(0.02)
            assert stub.StopWorker(
                beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"), timeout=30
            ).error == ""  # fmt: skip
        with socket.socket() as elsewhere, pytest.raises(OSError, match="refused"):
            elsewhere.connect(("127.0.0.2", port))
    finally:
        process.terminate()
        assert process.wait(30) == 0
    said = started.read_text().split()
    assert {"--id=1-1", "--control_endpoint=localhost:4711"} <= set(said)
