"""A control plane and two sidecars of the built binary: one beside the callers, one before the applications.

caller -> 127.97.1.2 (outbound) --mTLS--> 127.97.2.1 (inbound) -> 127.97.2.1 (application, port + 10000)
"""

import contextlib
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
HTTP, GRPC = 9080, 9090
BEHIND = 10_000
PATIENCE = 30.0

RESOURCES = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: {NAMESPACE}}}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {HTTP}, name: http, protocol: HTTP}}, {{number: {GRPC}, name: grpc, protocol: GRPC}}]
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
  - {{port: {{number: {HTTP}, name: http, protocol: HTTP}}, bind: {SERVER}, defaultEndpoint: '0.0.0.0:{HTTP + BEHIND}'}}
  - {{port: {{number: {GRPC}, name: grpc, protocol: GRPC}}, bind: {SERVER}, defaultEndpoint: '0.0.0.0:{GRPC + BEHIND}'}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: caller, namespace: {NAMESPACE}}}
spec:
  workloadSelector: {{labels: {{app: caller}}}}
  egress:
  - {{port: {{number: {HTTP}, name: http, protocol: HTTP}}, bind: {MESH}, captureMode: NONE, hosts: ['*/*']}}
  - {{port: {{number: {GRPC}, name: grpc, protocol: GRPC}}, bind: {MESH}, captureMode: NONE, hosts: ['*/*']}}
"""


@contextlib.contextmanager
def running(binary):
    """Runs them for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="isthmus-peers-") as home:
        home = pathlib.Path(home)
        subprocess.run(
            [binary, "init", "--cluster", "peers", "--trust-domain", "peers.example", "--directory", home / "isthmus"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (home / "resources").mkdir()
        (home / "resources" / "all.yaml").write_text(RESOURCES)
        processes = []
        try:
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
            processes.append(start(binary, home, "controlplane", "controlplane", CONTROL_PLANE, settings))
            listening((CONTROL_PLANE, 15012))
            for name, address in (("echo", SERVER), ("caller", CALLER)):
                processes.append(start(binary, home, "sidecar", name, address, sidecar(binary, home, name, address)))
            for at in ((SERVER, HTTP), (SERVER, GRPC), (MESH, HTTP), (MESH, GRPC)):
                listening(at)
            yield home
            for process in processes:
                assert process.poll() is None, f"{process.args}: ended early with {process.returncode}"
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(PATIENCE)


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
    settings = {
        "telemetry": {"metrics": f"{address}:15090", "logFormat": "text", "logFilter": "info,access=off"},
        "admin": f"{address}:15000",
        "workers": 1,
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
