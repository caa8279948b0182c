"""What the jailer is told, and what has to be in the jail."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from cloche.engines.vm import jailer
from cloche.engines.vm.jailer import Jail, Placement
from cloche.engines.vm.machine import Drive, Machine
from cloche.model.errors import InvalidError

SANDBOX = "sb_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def jail(**changes: Any) -> Jail:
    settings: dict[str, Any] = {
        "jailer": "/usr/bin/jailer", "firecracker": "/usr/bin/firecracker-v1.8.0", "base": "/h/jails", "uid": 70001,
        "gid": 70001,
    }  # fmt: skip
    return Jail(**{**settings, **changes})


def published() -> argparse.ArgumentParser:
    """The options of docs/jailer.md (1.16.1), and no others."""
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for name in ("--id", "--exec-file", "--uid", "--gid"):
        parser.add_argument(name, required=True)
    for name in ("--parent-cgroup", "--chroot-base-dir", "--netns"):
        parser.add_argument(name)
    parser.add_argument("--cgroup-version", choices=["1", "2"], default="1")
    for name in ("--cgroup", "--resource-limit"):
        parser.add_argument(name, action="append", default=[])
    for name in ("--daemonize", "--new-pid-ns"):
        parser.add_argument(name, action="store_true")
    return parser


def parsed(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    end = words.index("--")
    return published().parse_args(words[1:end]), words[end + 1 :]


def test_the_jailer_knows_every_option_and_firecracker_gets_the_rest() -> None:
    words = jailer.argv(jail(), SANDBOX, ["--api-sock", "api.sock"], cgroups={"memory.max": "1"}, max_file_bytes=9)
    options, rest = parsed(words)
    assert (options.uid, options.gid, options.cgroup_version) == ("70001", "70001", "2")
    assert options.cgroup == ["memory.max=1"] and options.parent_cgroup == "cloche"
    assert options.resource_limit == ["fsize=9", "no-file=256"]
    assert rest == ["--api-sock", "api.sock"] and "--id" not in rest


def test_the_jailer_stays_the_child_of_whoever_started_it() -> None:
    options, _ = parsed(jailer.argv(jail(), SANDBOX, [], cgroups={}, max_file_bytes=None))
    assert not options.daemonize and not options.new_pid_ns and not options.cgroup


def test_the_root_is_where_the_jailer_makes_it() -> None:
    assert jailer.root(jail(), SANDBOX) == "/h/jails/firecracker-v1.8.0/sb-01ARZ3NDEKTSV4RRFFQ69G5FAV/root"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "x" * 65, "ä"])
def test_an_id_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        jailer.jail_id(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"firecracker": "/usr/bin/vmm"},
        {"uid": 0},
        {"gid": 0},
        {"base": "jails"},
        {"jailer": "jailer"},
        {"parent_cgroup": "/x"},
        {"parent_cgroup": "a/../../b"},
    ],
)
def test_a_jail_that_would_be_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        jail(**changes)


@pytest.mark.parametrize("settings", [{"../x": "1"}, {"memory.max": "1\n2"}, {"memory max": "1"}])
def test_a_cgroup_setting_cannot_leave_its_file(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        jailer.argv(jail(), SANDBOX, [], cgroups=settings, max_file_bytes=None)


def machine(*drives: Drive) -> Machine:
    return Machine(vcpus=1, memory_mib=128, kernel="/k", initramfs="/i", command_line="", drives=drives)


def test_only_drives_that_are_written_belong_to_the_jail() -> None:
    drives = Drive(id="root", path="/r", read_only=True), Drive(id="disk", path="/d")
    placed = jailer.placements(machine(*drives), boots=True)
    assert Placement(source="/d", name="disk", writable=True) in placed
    assert {file.name for file in placed if not file.writable} == {"kernel", "initramfs", "root"}
    assert {file.name for file in jailer.placements(machine(*drives), boots=False)} == {"root", "disk"}


def test_a_drive_cannot_take_the_name_of_another_file() -> None:
    with pytest.raises(InvalidError):
        jailer.placements(machine(Drive(id="kernel", path="/x")), boots=True)
