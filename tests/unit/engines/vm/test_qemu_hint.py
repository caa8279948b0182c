"""How a machine gets QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engines.vm import apt_sources, qemu_hint


@pytest.fixture
def bookworm(tmp_path: Path) -> Path:
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    (tmp_path / "etc/apt/sources.list").write_text(
        "deb http://security.example bookworm-security main\ndeb http://mirror.example/debian bookworm main\n"
    )
    return tmp_path


def test_nothing_is_missing_with_a_new_one(tmp_path: Path) -> None:
    assert qemu_hint.missing(tmp_path, "x86_64", lambda name: f"QEMU emulator version 10.0.2 ({name})") == []


def test_an_old_one_says_what_is_lost_and_where_a_newer_one_is(bookworm: Path) -> None:
    (said,) = qemu_hint.missing(bookworm, "x86_64", lambda name: "QEMU emulator version 7.2.11 (Debian)")
    assert "QEMU 7.2 is older than 10" in said and "cannot clone" in said
    assert "http://mirror.example/debian" in said and "-t bookworm-backports qemu-system-x86" in said


def test_none_at_all(bookworm: Path) -> None:
    for answer in ("", "noise", "QEMU emulator version x"):
        (said,) = qemu_hint.missing(bookworm, "aarch64", lambda name, answer=answer: answer)
        assert said.startswith("qemu-system-aarch64 is not installed") and "qemu-system-arm" in said


def test_without_a_mirror_there_is_a_gap_to_fill(bookworm: Path) -> None:
    (bookworm / "etc/apt/sources.list").unlink()
    assert "URIs: <mirror>" in qemu_hint.missing(bookworm, "x86_64", lambda name: "")[0]


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian", "VERSION_ID": "13"}, "sudo apt-get install --no-install-recommends qemu-system-x86"),
        ({"ID": "ubuntu"}, "sudo apt-get install --no-install-recommends qemu-system-x86"),
        ({"ID": "mint", "ID_LIKE": "ubuntu debian"}, "sudo apt-get install --no-install-recommends qemu-system-x86"),
        ({"ID": "fedora"}, "sudo dnf install qemu-system-x86-core"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install qemu-system-x86-core"),
        ({"ID": "void"}, "install QEMU 10 or newer by your system's packages"),
        ({}, "brew install qemu"),
    ],
)
def test_each_system_has_its_command(release: dict[str, str], command: str) -> None:
    assert qemu_hint.how_to_get(release, "x86_64") == command


def test_the_source_of_backports_is_one_that_apt_reads() -> None:
    (source,) = apt_sources.parse_stanzas(qemu_hint.backports("http://mirror.example/debian"))
    assert source == apt_sources.Source("http://mirror.example/debian", "bookworm-backports", qemu_hint.KEYRING)


def test_a_program_that_is_not_there_says_nothing() -> None:
    assert qemu_hint.said_version("qemu-system-no-such-machine") == ""
