"""Puts the attacker where QEMU would stand, beside another box and with things on the host to find.

    python confined.py HOME ATTACKER      one line of JSON: what came of each try, and how it ended

It runs in a process of its own, because it must be able to run as an ordinary user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloche.engines.launched import ids, supervisor
from cloche.engines.launched.facts import Facts, gather
from cloche.engines.namespace.plan import PROC_MASKED, PROC_READ_ONLY

PATIENCE_SECONDS = 60.0
PIDS = 24
#: inside, in the modes that have more than one; nobody's on the host
MONITOR_ID = 1
ENTRIES = [{"kind": "dir", "path": "/proc", "mode": 0o555}, {"kind": "dir", "path": "/dev", "mode": 0o755}]


def plan(facts: Facts, home: Path, name: str, told: dict[str, Any]) -> dict[str, Any]:
    run_dir, closed = home / name, home / f"{name}-closed"
    run_dir.mkdir(mode=0o700)
    # its ids may not enter where its files lie
    closed.mkdir(mode=0o700)
    paths = {file: closed / file for file in ("ram", "system", "kernel", "disk")}
    for path in paths.values():
        path.write_bytes(b"host" * 1024)
        path.chmod(0o444 if path.name == "ram" else 0o600)
    return {
        "sandbox_id": f"sb_{name}", "run_dir": str(run_dir), "hostname": "monitor",
        "ids": ids.ids(facts) | ({} if facts.id_mode == "one" else {"uid": MONITOR_ID, "gid": MONITOR_ID}),
        "cgroups": [], "skeleton": ENTRIES, "disk_mib": 1, "inodes": 64, "shm_mib": 1, "devices": ["null"],
        "binds": [{"source": str(home / "vmm"), "target": "/vmm", "read_only": True},
                  {"source": str(paths["ram"]), "target": "/machine/memory", "read_only": True}],
        "proc_read_only": PROC_READ_ONLY, "proc_masked": PROC_MASKED, "guest_caps": [], "pids": PIDS,
        "landlock": {"read": ["/vmm", "/machine", "/proc", "/dev/null"], "device": ["/dev/null"]},
        "deadline": 0, "keep_disk": "",
        "program": {
            "argv": ["/vmm/attacker"], "env": {"FACTS": json.dumps(told)}, "console_fd": 30,
            "file_bytes": 4096,
            "files": [{"path": str(paths["system"]), "fd": 10}, {"path": str(paths["kernel"]), "fd": 11},
                      {"path": str(paths["disk"]), "write": True, "fd": 12}],
            "listen": [{"name": "qmp.sock", "fd": 20}, {"name": "channel.sock", "fd": 21}],
        },
    }  # fmt: skip


def hear(run_dir: Path) -> list[dict[str, str]]:
    """What the attacker says, up to its last try."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(PATIENCE_SECONDS)
        channel.connect(str(run_dir / "channel.sock"))
        lines = []
        for line in channel.makefile("r"):
            lines.append(json.loads(line))
            if lines[-1]["name"] == "end":
                break
        return lines


def copy_pages(launcher: Path, operation: str, pid: int, closed: Path) -> dict[str, Any]:
    """What `cloche-launcher pages` says."""
    script = 'exec "$1" pages "$2" --pid "$3" 3<"$4" 4<>"$5"'
    argv = ["sh", "-c", script, "sh", str(launcher), operation, str(pid), str(closed / "ram"), str(closed / "pages")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return {"exit_code": done.returncode, **json.loads(done.stdout)}


def copy_memory(launcher: Path, pid: int, closed: Path) -> dict[str, Any]:
    """Out of the program that lingers, and into it again."""
    pages = closed / "pages"
    pages.touch(mode=0o600)
    os.truncate(pages, (closed / "ram").stat().st_size)
    saved = copy_pages(launcher, "save", pid, closed)
    found = pages.read_bytes()[:4].decode()
    return {"saved": saved, "found": found, "loaded": copy_pages(launcher, "load", pid, closed)}


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], PATIENCE_SECONDS)[0])


async def attack(home: Path, attacker: Path) -> dict[str, Any]:
    (home / "vmm").mkdir(parents=True)
    shutil.copy(attacker, home / "vmm/attacker")
    facts = gather()
    other = plan(facts, home, "other", {"linger": True})
    beside = await supervisor.launch(facts.launcher, other)
    held = os.pidfd_open(beside["init_pid"])
    try:
        found = await _attack_beside(facts, home, beside)
        hear(Path(other["run_dir"]))
        copied = copy_memory(facts.launcher, beside["init_pid"], home / "other-closed")
        # the supervisor of the other one is killed: what it kept must not outlive it
        alive = not select.select([held], [], [], 0)[0]
        os.kill(beside["supervisor_pid"], signal.SIGKILL)
        return found | {"lived": alive, "outlived": not ended(held), "copied": copied}
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(held, signal.SIGKILL)


async def _attack_beside(facts: Facts, home: Path, beside: dict[str, Any]) -> dict[str, Any]:
    run_dirs = [home / "own", home / "other"]
    (home / "secret").write_text("secret")
    sockets = [str(run_dir / name) for run_dir in run_dirs for name in ("control.sock", "qmp.sock", "channel.sock")]
    told = {"paths": [str(home), str(home / "secret"), *map(str, run_dirs), str(facts.launcher)], "sockets": sockets,
            "pids": [os.getpid(), beside["supervisor_pid"], beside["init_pid"]]}  # fmt: skip
    wanted = plan(facts, home, "own", told)
    own = await supervisor.launch(facts.launcher, wanted)
    held = os.pidfd_open(own["supervisor_pid"])
    status = Path(f"/proc/{own['init_pid']}/status").read_text()
    tries = hear(Path(wanted["run_dir"]))
    gone = ended(held)
    if not gone:
        await supervisor.ask(Path(wanted["run_dir"]), {"op": "end", "reason": "killed"})
    closed = home / "own-closed"
    return {
        "tries": tries, "status": dict(line.split(":", 1) for line in status.splitlines() if ":" in line),
        "exit": supervisor.read_json(home / "own/exit.json"), "left": sorted(os.listdir(home / "own")),
        "files": {path.name: path.read_bytes()[:4].decode() for path in sorted(closed.iterdir())},
        "threads": int((closed / "disk").read_bytes()[8:12]),
        "modes": {path.name: path.stat().st_mode & 0o777 for path in sorted(closed.iterdir())},
    }  # fmt: skip


def main() -> None:
    print(json.dumps(asyncio.run(attack(Path(sys.argv[1]), Path(sys.argv[2])))))


if __name__ == "__main__":
    main()
