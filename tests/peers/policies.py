"""What policies cost: requests a second to a workload with a hundred AuthorizationPolicies, and with none, in one run.

    python tests/peers/policies.py target/release/isthmus [ROUNDS [SECONDS]]

Half of the policies deny by paths, fields and addresses that no request has; the others allow callers, and the one that
lets ours in is the last. Both kinds are asked for in turns over the same connections' proxies. Needs wrk.
"""

import re
import statistics
import sys
import time
import urllib.error
import urllib.request

import load
import mesh

COUNT = 100
MARKED = "/marked"


def main(binary, rounds, seconds):
    rates = {0: [], COUNT: []}
    with mesh.running(binary) as processes, mesh.application(binary):
        mesh.until("the application answers", lambda: answered("/", {200}))
        for _ in range(rounds):
            for count in rates:
                (processes.home / "resources" / "policies.yaml").write_text(policies(count))
                mesh.until(f"{count} policies", lambda wanted={403} if count else {200, 404}: answered(MARKED, wanted))
                rates[count].append(rate(seconds))
    print(f"{'policies':>8} {'requests/s, median':>20}   each round")
    for count, each in rates.items():
        print(f"{count:>8} {statistics.median(each):>20.0f}   {', '.join(f'{one:.0f}' for one in each)}")
    ratios = [many / none for none, many in zip(*rates.values())]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"ratio {statistics.median(rates[COUNT]) / statistics.median(rates[0]):.2f} ({spread})")


def rate(seconds):
    text = load.output(
        "wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s", "-H", f"Host: {load.AUTHORITY}", f"http://{mesh.MESH}:{mesh.HTTP}/"
    )
    assert "Socket errors" not in text and "Non-2xx" not in text, text
    return float(re.search(r"Requests/sec: +(\S+)", text)[1])


def answered(path, wanted):
    """Asks the workload; its status must be one of these."""
    request = urllib.request.Request(f"http://{mesh.MESH}:{mesh.HTTP}{path}", headers={"Host": load.AUTHORITY})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status in wanted, status


def policies(count):
    if not count:
        return "# None.\n"
    deny = [policy(n, "DENY", denied(n)) for n in range(count // 2)]
    allow = [policy(n, "ALLOW", allowed(n, count - 1)) for n in range(count // 2, count)]
    return "---\n".join(deny + allow)


def denied(n):
    if n == 0:
        return f"to: [{{operation: {{paths: ['{MARKED}']}}}}]"
    match n % 3:
        case 0:
            return f"to: [{{operation: {{methods: [POST], paths: ['/secret-{n}/*']}}}}]"
        case 1:
            return f"when: [{{key: 'request.headers[x-role-{n}]', values: [guest]}}]"
        case _:
            return f"from: [{{source: {{ipBlocks: [10.{n}.0.0/16], namespaces: [other-{n}]}}}}]"


def allowed(n, last):
    name = "caller" if n == last else f"friend-{n}"
    return f"from: [{{source: {{principals: [peers.example/ns/{mesh.NAMESPACE}/sa/{name}]}}}}]"


def policy(n, action, rule):
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: policy-{n:03}, namespace: {mesh.NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  action: {action}
  rules:
  - {{{rule}}}
"""


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    main(sys.argv[1], *(numbers + [5, 4][len(numbers) :]))
