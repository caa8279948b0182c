"""A network by name: one sandbox serves, this program and another sandbox may reach it, and everything else is refused.

Nothing here leaves the machine, so it runs without any network of its own."""

from __future__ import annotations

import time
from urllib.request import urlopen

from cloche import AcceptRule, EgressPolicy, Sandbox

FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())"


def main() -> None:
    accept = EgressPolicy(accept=[AcceptRule(sandboxes=["visitor"], ports=["8000"])])
    with (
        Sandbox.create(name="site", net=accept, ttl_seconds=600) as site,
        Sandbox.create(name="visitor", net="site.sandbox:8000", ttl_seconds=600) as visitor,
    ):
        site.files.write("note", "hello from the site")
        site.spawn("python3", "-m", "http.server", "8000")

        published = site.publish(8000)
        print("for a browser:", published.url)
        print("this machine reads:", read(f"http://{published.address}/note"))
        print(
            "the visitor reads:", visitor.exec("python3", "-c", FETCH, "http://site.sandbox:8000/note").stdout.strip()
        )

        refused = visitor.exec("python3", "-c", FETCH, "http://elsewhere.example/")
        print("elsewhere:", refused.stderr.strip().splitlines()[-1])
        print("what would have been enough:", ",".join(visitor.suggest_policy().words))
        for line in visitor.egress_log():
            print(f"  {line.verdict:<8} {line.host}:{line.port}  {line.rule}")


def read(url: str) -> str:
    """As soon as the server inside listens."""
    while True:
        try:
            with urlopen(url, timeout=20) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
