"""Sandboxes that are ready before anybody asks: a template of which two wait, with code that has run in them."""

import time

from cloche import Node, Sandbox

NAME = "example-data"
PREPARE = "import json, statistics\ndef mean(*numbers): return statistics.mean(numbers)"
WAIT_SECONDS = 60


def wait_until_ready(node: Node, wanted: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        pool = next((pool for pool in node.pool().pools if NAME in pool.templates), None)
        if pool is not None and pool.error:
            raise SystemExit(f"the pool cannot be filled: {pool.error}")
        if pool is not None and pool.ready >= wanted:
            return
        time.sleep(0.1)
    raise SystemExit("the pool was not filled in time: cloche ls --pool")


def answer(label: str) -> None:
    begun = time.monotonic()
    with Sandbox.create(template=NAME, labels={"example": "pool", "for": label}) as sandbox:
        mean = sandbox.run_code("mean(2, 4, 9)").text
        print(f"{label}: {mean} after {time.monotonic() - begun:.3f} s")


def main() -> None:
    node = Node()
    node.templates.set(NAME, pids=64, ttl_seconds=600, warm=2, contexts={"python": PREPARE})
    try:
        answer("first, perhaps not warm yet")
        wait_until_ready(node, 2)
        answer("from the pool")
        for pool in node.pool().pools:
            if NAME in pool.templates:
                print("hits", pool.hits, "misses", dict(pool.misses))
    finally:
        node.templates.remove(NAME)


if __name__ == "__main__":
    main()
