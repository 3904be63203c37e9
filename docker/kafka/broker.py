"""A Kafka broker on this machine: ``broker.py start|stop|kill DIR``.

One node without ZooKeeper, which listens on 127.0.0.1 alone, on ports of its own;
``DIR/bootstrap`` has its address. What it stores is in ``DIR/data`` and survives any end.
It needs Java 17 and Maven, which fetches the broker once, 43 MB, into a cache folder.

``start`` has two options. ``--secure`` adds a listener with passwords, of which the address
is in ``DIR/bootstrap.sasl`` (users ``reader`` and ``stranger``, each with its name as the
password; a stranger may do nothing), and one with TLS (``DIR/bootstrap.tls``, certificate in
``DIR/broker.pem``). ``--while PID`` ends the broker when that process has ended.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree

POM = Path(__file__).with_name("pom.xml")
STARTED_WITHIN_S = 60
STOPPED_WITHIN_S = 30
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=200
"""
SECURE = """\
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required \
user_reader="reader" user_stranger="stranger";
listener.name.tls.ssl.keystore.type=PKCS12
listener.name.tls.ssl.keystore.location={folder}/broker.p12
listener.name.tls.ssl.keystore.password=loopback
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:reader;User:CN=127.0.0.1
"""


def jars() -> Path:
    """Return the folder with the broker's jars; Maven fills it at the first call."""
    version = ElementTree.parse(POM).findtext(".//{*}kafka.version")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"
    folder = cache / f"kafka-{version}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            filled = Path(temporary) / "jars"
            maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-f", str(POM)]
            subprocess.run([*maven, f"-DoutputDirectory={filled}"], check=True)
            with contextlib.suppress(OSError):  # another process was faster
                filled.rename(folder)
    return folder


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def configure(folder: Path, secure: bool) -> None:
    """Write the properties, and format the store."""
    names = ["PLAINTEXT", "CONTROLLER", *(["SASL", "TLS"] if secure else [])]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    listeners = {name: f"{name}://127.0.0.1:{port}" for name, port in ports.items()}
    text = PROPERTIES.format(
        listeners=",".join(listeners.values()),
        advertised=",".join(at for name, at in listeners.items() if name != "CONTROLLER"),
        controller=ports["CONTROLLER"],
        folder=folder,
    )
    if secure:
        text += SECURE.format(folder=folder)
        store = ["-keystore", str(folder / "broker.p12"), "-storepass", "loopback"]
        subprocess.run(
            ["keytool", "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-validity", "3650",
             "-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-storetype", "PKCS12", *store],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["keytool", "-exportcert", "-rfc", "-alias", "broker", *store,
             "-file", str(folder / "broker.pem")],
            check=True, capture_output=True,
        )  # fmt: skip
    (folder / "server.properties").write_text(text)
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "A")
    java(folder, "kafka.tools.StorageTool", "format", "-t", cluster, "-c",
         str(folder / "server.properties")).wait()  # fmt: skip
    for name, suffix in (("SASL", ".sasl"), ("TLS", ".tls"), ("PLAINTEXT", "")):
        if name in ports:
            (folder / f"bootstrap{suffix}").write_text(f"127.0.0.1:{ports[name]}")


def java(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Run a class of the broker; what it says is in ``DIR/log``."""
    options = ["-Xms256m", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            ["java", *options, "-cp", f"{jars()}/*", *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def pid_of(folder: Path) -> int | None:
    """Return the process of the broker, None if it does not run."""
    try:
        pid = int((folder / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline")
        os.kill(pid, 0)
        # Its number may be that of another process by now.
        if command.parent.parent.is_dir() and str(folder).encode() not in command.read_bytes():
            return None
    except (OSError, ValueError):
        return None
    return pid


def answers(address: str) -> bool:
    """Return whether the broker answers a request for its versions."""
    host, _, port = address.partition(":")
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection((host, int(port)), 1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(10)) == 10
    except OSError:
        return False


def start(folder: Path, secure: bool = False, parent: int | None = None) -> str:
    """Start the broker, and return its address when it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bootstrap").exists():
        configure(folder, secure)
    address = (folder / "bootstrap").read_text()
    if pid_of(folder) is None:
        broker = java(folder, "kafka.Kafka", str(folder / "server.properties"))
        (folder / "pid").write_text(str(broker.pid))
        until = time.monotonic() + STARTED_WITHIN_S
        while not answers(address):
            if broker.poll() is not None:
                raise SystemExit(f"the broker has ended; {folder}/log says why")
            if time.monotonic() > until:
                end(folder, signal.SIGKILL)
                raise SystemExit(f"the broker does not answer; {folder}/log may say why")
            time.sleep(0.05)
    if parent is not None:
        subprocess.Popen(
            [sys.executable, __file__, "watch", str(folder), "--while", str(parent)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    return address


def end(folder: Path, how: signal.Signals) -> None:
    """End the broker, and wait until it has ended."""
    pid = pid_of(folder)
    until = time.monotonic() + STOPPED_WITHIN_S
    while pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        with contextlib.suppress(ChildProcessError):  # not started by this process
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > until:
            how = signal.SIGKILL
        time.sleep(0.1)
        pid = pid_of(folder)
    (folder / "pid").unlink(missing_ok=True)


def watch(folder: Path, parent: int) -> None:
    """Kill the broker when another process has ended, and end with the broker."""
    while pid_of(folder) is not None:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            end(folder, signal.SIGKILL)
        time.sleep(1)


def missing() -> str | None:
    """Return why no broker can be started here, None if one can."""
    for name in ("java", "mvn", "keytool"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    return None


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["start", "stop", "kill", "watch"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--while", type=int, dest="parent", metavar="PID")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.command == "start":
        print(start(folder, options.secure, options.parent))
    elif options.command == "watch":
        watch(folder, options.parent)
    else:
        end(folder, signal.SIGTERM if options.command == "stop" else signal.SIGKILL)


if __name__ == "__main__":
    main()
