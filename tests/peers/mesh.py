"""A control plane and two sidecars of the built binary: one beside the callers, one before the applications.

caller -> 127.97.1.2 (outbound) --mTLS--> 127.97.2.1 (inbound) -> 127.97.2.1 (application, port + 10000)
"""

import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time

CONTROL_PLANE = "127.97.0.1"
CALLER = "127.97.1.1"
MESH = "127.97.1.2"
SERVER = "127.97.2.1"
NAMESPACE = "shop"
HOST = "echo.shop.svc.cluster.local"
# The bookshop, an application that reads bodies, and gRPC.
HTTP, BODIES, GRPC = 9080, 9081, 9090
PORTS = ((HTTP, "HTTP"), (BODIES, "HTTP"), (GRPC, "GRPC"))
BEHIND = 10_000
PATIENCE = 30.0


def port(one):
    return f"{{number: {one[0]}, name: p{one[0]}, protocol: {one[1]}}}"


def lines(items):
    return "\n".join(f"  - {item}" for item in items)


RESOURCES = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{", ".join(map(port, PORTS))}]
  workloadSelector: {{labels: {{app: echo}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec: {{address: {SERVER}, serviceAccount: echo, labels: {{app: echo}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  workloadSelector: {{labels: {{app: echo}}}}
  ingress:
{lines(f"{{port: {port(one)}, bind: {SERVER}, defaultEndpoint: '0.0.0.0:{one[0] + BEHIND}'}}" for one in PORTS)}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: caller, namespace: {NAMESPACE}}}
spec:
  workloadSelector: {{labels: {{app: caller}}}}
  egress:
{lines(f"{{port: {port(one)}, bind: {MESH}, captureMode: NONE, hosts: ['*/*']}}" for one in PORTS)}
"""


class Processes:
    """What runs, and the folder with all files."""

    def __init__(self, home):
        self.home, self.by_name = home, {}

    def memory(self, name):
        """What it holds, in KiB."""
        text = pathlib.Path(f"/proc/{self.by_name[name].pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:")))


@contextlib.contextmanager
def running(binary):
    """Runs them for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="isthmus-peers-") as home:
        home = pathlib.Path(home)
        processes = Processes(home)
        try:
            processes.by_name["controlplane"] = control_plane(binary, home, RESOURCES)
            for name, address in (("echo", SERVER), ("caller", CALLER)):
                settings = sidecar(binary, home, name, address)
                processes.by_name[name] = start(binary, home, "sidecar", name, address, settings)
            for address in (SERVER, MESH):
                for number, _ in PORTS:
                    listening((address, number))
            yield processes
            for process in processes.by_name.values():
                assert process.poll() is None, f"{process.args}: ended early with {process.returncode}"
        finally:
            for process in processes.by_name.values():
                process.terminate()
            for process in processes.by_name.values():
                process.wait(PATIENCE)


def control_plane(binary, home, resources):
    """Starts a control plane of `resources`, whose files are all in `home`; it listens then."""
    subprocess.run(
        [binary, "init", "--cluster", "peers", "--trust-domain", "peers.example", "--directory", home / "isthmus"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (home / "resources").mkdir()
    (home / "resources" / "all.yaml").write_text(resources)
    settings = {
        "listen": f"{CONTROL_PLANE}:15012",
        "certificateAuthority": str(home / "isthmus/ca"),
        "tokenKey": str(home / "isthmus/token-key.pem"),
        "registry": {
            "resources": str(home / "resources"),
            "registryKey": str(home / "isthmus/registry-key.pem"),
            "peers": [],
        },
    }
    process = start(binary, home, "controlplane", "controlplane", CONTROL_PLANE, settings)
    listening((CONTROL_PLANE, 15012))
    return process


def sidecar(binary, home, name, address):
    """The settings of the sidecar of a workload, with its token."""
    output = home / name
    subprocess.run(
        [binary, "token", "workload", "--namespace", NAMESPACE, "--service-account", name]
        + ["--directory", home / "isthmus", "--address", f"{CONTROL_PLANE}:15012", "--output", output],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return {
        "workload": {
            "name": name,
            "namespace": NAMESPACE,
            "serviceAccount": name,
            "addresses": [address],
            "labels": {"app": name},
            "interception": "NONE",
        },
        "identity": {
            "controlPlane": f"{CONTROL_PLANE}:15012",
            "roots": str(output / "root-cert.pem"),
            "token": str(output / "token"),
        },
    }


def start(binary, home, role, name, address, settings):
    """Starts `isthmus ROLE`; JSON is YAML too."""
    lines = (home / "isthmus/cluster.yaml").read_text()
    # An agent has none of its own: they are Envoy's.
    own = {} if role == "agent" else {"admin": f"{address}:15000", "workers": 1}
    telemetry = {"metrics": f"{address}:15090", "readiness": f"{address}:15021"}
    settings = {
        "telemetry": {**telemetry, "logFormat": "text", "logFilter": "info,access=off"},
        **own,
        **settings,
    }
    file = home / f"{name}.yaml"
    file.write_text(lines + "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    log = open(home / f"{name}.log", "wb")
    return subprocess.Popen([binary, role, "--config", file], stdout=log, stderr=log)


def listening(at):
    """Waits until somebody listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(at, timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def application(binary):
    """The bookshop's details, behind the server's sidecar."""
    at = f"{SERVER}:{HTTP + BEHIND}"
    process = subprocess.Popen(
        [binary, "bookshop", "details", "--listen", at, "--cluster", "peers"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def until(what, attempt):
    """Repeats the attempt until it succeeds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            assert time.monotonic() < deadline, f"{what}: {error!r}"
            time.sleep(0.05)
