"""What our sidecar holds in memory, and what Envoy holds that follows the same control plane.

    ENVOY=/usr/local/bin/envoy python tests/peers/memory.py target/release/isthmus

With 10 services and with 1,000, all of them seen by the one workload: each has five endpoints and a VirtualService of
five routes. Both proxies stand in the way of redirected traffic, with two workers. Nothing is asked of them: it is the
configuration that is weighed. Exits with 1 if our sidecar holds more than Envoy, or more than LIMIT of it if that is given
as a second argument, e.g. 0.33.

Works in a network namespace of its own (util-linux's unshare), so that all ports are free.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import mesh

COUNTS = (10, 1000)
INSIDE = "ISTHMUS_MEMORY_INSIDE"


def main(binary, envoy, limit):
    rows, passed = [], True
    for count in COUNTS:
        with tempfile.TemporaryDirectory(prefix="isthmus-memory-") as home:
            home = pathlib.Path(home)
            control_plane = mesh.control_plane(binary, home, resources(count))
            with ending(control_plane):
                ours = of_sidecar(binary, home, count)
                agent, theirs = of_envoy(binary, home, envoy, count)
        for kind in ("RSS", "PSS"):
            rows.append((count, kind, ours[kind], theirs[kind], agent[kind]))
            passed = passed and ours[kind] <= limit * theirs[kind]
    print(f"{'services':>8} {'':>4} {'sidecar':>10} {'Envoy':>10} {'ratio':>6}   {'beside Envoy, the agent'}")
    for count, kind, ours, theirs, agent in rows:
        print(f"{count:>8} {kind:>4} {mib(ours):>10} {mib(theirs):>10} {ours / theirs:>6.2f}   {mib(agent)}")
    for name, column in (("sidecar", 2), ("Envoy", 3)):
        (few, *first), (many, *last) = rows[0], rows[2]
        each = (last[column - 1] - first[column - 1]) / (many - few)
        print(f"{name}: {each:.1f} KiB for each service more")
    print("ok" if passed else f"FAIL: the sidecar holds more than {limit} of what Envoy holds")
    return 0 if passed else 1


def resources(count):
    """Services, and their VirtualServices."""
    return "---\n".join(service(n) for n in range(count))


def service(n):
    name, host = f"service-{n}", f"service-{n}.shop.svc.cluster.local"
    to = f"route: [{{destination: {{host: {host}}}}}]"
    routes = [f"  - {{match: [{{uri: {{prefix: /{i}}}}}], {to}}}" for i in range(1, 5)] + [f"  - {to}"]
    endpoints = [f"  - {{address: 10.{i}.{n // 250}.{n % 250}, serviceAccount: {name}}}" for i in range(5)]
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {mesh.NAMESPACE}}}
spec:
  hosts: [{host}]
  addresses: [240.240.{n // 250}.{n % 250 + 1}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints:
{chr(10).join(endpoints)}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {mesh.NAMESPACE}}}
spec:
  hosts: [{host}]
  http:
{chr(10).join(routes)}
"""


def of_sidecar(binary, home, count):
    """What our sidecar holds once it has everything."""
    settings = settings_of(binary, home, "ours", "127.97.3.1")
    process = mesh.start(binary, home, "sidecar", "ours", "127.97.3.1", {**settings, "workers": 2})
    with ending(process):
        # It is ready when all that it asked for has come.
        until("the sidecar", lambda: ask("http://127.97.3.1:15021/healthz/ready"))
        until("its upstreams", lambda: told("ours") >= count)
        return settled(process.pid)


def of_envoy(binary, home, envoy, count):
    """What the agent and its Envoy hold once Envoy has everything."""
    settings = settings_of(binary, home, "envoy", "127.97.4.1")
    settings |= {
        "envoy": envoy,
        "directory": str(home / "envoy-files"),
        "envoyAdmin": "127.97.4.1:15000",
        "envoyMetrics": "127.97.4.1:15091",
    }
    process = mesh.start(binary, home, "agent", "envoy", "127.97.4.1", settings)
    with ending(process):
        until("Envoy", lambda: ask("http://127.97.4.1:15000/ready"))
        until("its upstreams", lambda: active("http://127.97.4.1:15000/stats?filter=active_clusters") >= count)
        threads = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        assert len(children) == 1, f"the agent has one child, not {children}"
        return settled(process.pid), settled(int(children[0]))


def settings_of(binary, home, name, address):
    settings = mesh.sidecar(binary, home, name, address)
    settings["workload"]["interception"] = "REDIRECT"
    return {**settings, "dns": {"listen": [f"{address}:15053"]}}


@contextlib.contextmanager
def ending(process):
    """Ends the process with the block."""
    try:
        yield
        assert process.poll() is None, f"{process.args}: ended early with {process.returncode}"
    finally:
        process.terminate()
        process.wait(mesh.PATIENCE)


def until(what, check):
    """Waits until it holds; nobody listening counts as no."""
    deadline = time.monotonic() + mesh.PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if check():
                return
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.1)


def ask(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode() or "nothing"


def told(name):
    """How many upstreams the control plane has told the proxy of this name."""
    proxies = ask(f"http://{mesh.CONTROL_PLANE}:15000/inspect/proxies").splitlines()
    line = next((line for line in proxies if f"~{name}." in line and " current " in line), "")
    return sum(int(field[len("cds=") :]) for field in line.split() if field.startswith("cds="))


def active(url):
    """What Envoy's statistic says."""
    return int(ask(url).rsplit(":", 1)[1])


def settled(pid):
    """What the process holds, in KiB, once it stays the same from one second to the next."""
    deadline, last = time.monotonic() + mesh.PATIENCE, None
    while True:
        now = held(pid)
        if last is not None and all(abs(now[kind] - last[kind]) <= last[kind] // 200 for kind in now):
            return now
        assert time.monotonic() < deadline, f"it does not come to rest: {last}, {now}"
        last = now
        time.sleep(1)


def held(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = {line.split()[0]: line.split()[1] for line in lines[1:]}
    return {"RSS": int(fields["Rss:"]), "PSS": int(fields["Pss:"])}


def mib(kib):
    return f"{kib / 1024:.1f} MiB"


if __name__ == "__main__":
    if INSIDE not in os.environ:
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", *user, sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sys.exit(main(sys.argv[1], os.environ["ENVOY"], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0))
