"""run.py FACTS_JSON [PROBE…]: one line of JSON for each probe."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import probing

for topic in ("kernel_files", "devices", "mounts", "memory", "calls", "terminals", "privileges", "network", "secrets",
              "binaries", "guest_socket", "init_process"):  # fmt: skip
    __import__(topic)

if __name__ == "__main__":
    probing.FACTS.update(json.loads(sys.argv[1]))
    probing.main(sys.argv[2:])
