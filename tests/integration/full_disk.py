"""Run by test_bad_luck_disk.py in a mount namespace of its own: CLOCHE_HOME is a tmpfs of a few MiB that is filled up.

Prints one line for each thing that was seen to hold; ends with "all"."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cloche import NoSpaceError, NotFoundError, Sandbox
from tests.integration.bad_luck import cloche
from tests.integration.node_harness import end_node, node_pid

HOME = Path(os.environ["CLOCHE_HOME"])
BALLAST = HOME / "ballast"


def fill() -> None:
    with BALLAST.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def no_space(work, what: str) -> None:
    try:
        work()
    except NoSpaceError as error:
        assert error.remedy, error
        print(f"{what}: {error.message}", flush=True)
    else:
        raise AssertionError(f"{what} did not fail")


def stop_with_more_than_there_is_room_for(box: Sandbox) -> None:
    box.exec("sh", "-c", "head -c 20000000 /dev/urandom > large", check=True)
    no_space(box.stop, "stop of a large disk")
    assert box.info().state == "running", box.info()
    assert box.exec("sh", "-c", "wc -c < large").stdout == "20000000\n"
    box.files.remove("large")


def main() -> None:
    box = Sandbox.create(name="before")
    box.files.write("kept", "over the full disk")
    process = box.spawn("sh", "-c", "echo begun; read line; echo got-$line", stdin=True)
    pid = node_pid(HOME)
    stop_with_more_than_there_is_room_for(box)
    fill()
    no_space(Sandbox.create, "create")
    line = cloche("create")
    assert line.returncode == 125 and b"Traceback" not in line.stderr and b"space" in line.stderr, line
    # nothing is written on the host for these
    assert box.exec("echo", "works").stdout == "works\n"
    process.write_stdin("typed\n")
    assert b"".join(process.stdout) == b"begun\ngot-typed\n"
    assert [info.name for info in Sandbox.list()] == ["before"]
    no_space(box.stop, "stop")
    assert box.info().state == "running", box.info()
    assert box.exec("cat", "kept").stdout == "over the full disk"
    assert node_pid(HOME) == pid, "the node did not go on"
    print("the node goes on", flush=True)
    BALLAST.unlink()
    assert box.stop().state == "stopped"
    box.start()
    assert box.files.read("kept") == "over the full disk"
    fill()
    box.remove()
    try:
        box.info()
    except NotFoundError:
        print("removed on a full disk", flush=True)
    BALLAST.unlink()
    Sandbox.create().remove()
    assert not os.listdir(HOME / "run") and not os.listdir(HOME / "sandboxes")
    print("all", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        BALLAST.unlink(missing_ok=True)
        for left in Sandbox.list():
            Sandbox.from_id(left.id).remove()
        end_node(HOME)
        sys.stdout.flush()
