"""The same without the SDK: the node's HTTP API over its unix socket, with the standard library only.

Clients of the SDK and the command line start the node by themselves; here `cloche doctor` does it first.
docs/api.md has every route.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
from typing import Any

HOME = os.environ.get("CLOCHE_HOME") or os.path.expanduser("~/.local/share/cloche")


class UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.path.join(HOME, "node.sock"))


def call(method: str, path: str, body: object = None) -> Any:
    connection = UnixConnection("cloche")
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {json.loads(content)['error']}")
    return json.loads(content) if content and answer.headers.get_content_type() == "application/json" else content


def main() -> None:
    subprocess.run([sys.executable, "-m", "cloche.cli", "doctor"], stdout=subprocess.DEVNULL, check=True)
    print("node", call("GET", "/v1/health")["version"])
    sandbox = call("POST", "/v1/sandboxes", {"labels": {"example": "http"}, "ttl_seconds": 600})
    path = f"/v1/sandboxes/{sandbox['id']}"
    try:
        started = call("POST", f"{path}/processes", {"argv": ["sh", "-c", "echo hello > note"]})
        ended = call("GET", f"{path}/processes/{started['id']}/wait?timeout_seconds=30")
        print("exit code", ended["exit_code"])
        print("note:", call("GET", f"{path}/files/content?path=note").decode().strip())
    finally:
        call("DELETE", f"{path}?force=1")


if __name__ == "__main__":
    main()
