"""The image `host`: what it shows, and that it shows nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.images import host
from cloche.images.host import HostSurvey, check_host_path, interpreter_prefix, root_filesystem
from cloche.model.errors import InvalidError

FOUND = HostSurvey(
    top_links={"bin": "usr/bin", "lib": "usr/lib"},
    top_dirs=("lib32",),
    etc_binds={"ld.so.cache": "/etc/ld.so.cache", "ssl/certs": "/etc/ssl/certs"},
    etc_links={"mime.types": "/usr/share/mime.types", "ssl/openssl.cnf": "/usr/lib/ssl/openssl.cnf"},
    interpreter_prefix="/opt/python",
)


def test_everything_that_is_bound_is_named_here_and_read_only() -> None:
    root = root_filesystem(FOUND, "sb_1", "box")
    assert {bind.target: bind.source for bind in root.binds} == {
        "/usr": "/usr",
        "/lib32": "/lib32",
        "/etc/ld.so.cache": "/etc/ld.so.cache",
        "/etc/ssl/certs.machine": "/etc/ssl/certs",
        "/opt/python": "/opt/python",
    }
    assert all(bind.read_only for bind in root.binds)


def test_nothing_of_etc_that_holds_secrets_is_shown() -> None:
    secret = {
        "shadow",
        "gshadow",
        "sudoers",
        "ssh",
        "ssl/private",
        "passwd",
        "group",
        "hosts",
        "fstab",
        "krb5.keytab",
        "machine-id",
    }
    assert not secret & set(host.ETC_SHOWN)
    assert not any(name.startswith(("ssh", "sudo")) or "private" in name or ".." in name for name in host.ETC_SHOWN)


def test_entries_come_after_their_directories() -> None:
    seen = {"/"}
    for entry in root_filesystem(FOUND, "sb_1", "box").entries:
        assert str(Path(entry.path).parent) in seen, entry.path
        assert entry.path not in seen
        if entry.kind == "dir":
            seen.add(entry.path)


def test_owners_and_modes() -> None:
    entries = {entry.path: entry for entry in root_filesystem(FOUND, "sb_1", "box").entries}
    assert (entries["/home/user"].uid, entries["/home/user"].gid) == (1000, 1000)
    assert entries["/tmp"].mode == entries["/var/tmp"].mode == 0o1777
    assert entries["/root"].mode & 0o007 == 0o001
    others = [entry for entry in entries.values() if entry.path != "/home/user"]
    assert all((entry.uid, entry.gid) == (0, 0) for entry in others)
    writable = [
        entry.path for entry in others if entry.kind != "link" and entry.mode & 0o002 and not entry.mode & 0o1000
    ]
    assert writable == []


def test_the_files_are_the_sandboxs_own() -> None:
    files = {
        entry.path: entry.content for entry in root_filesystem(FOUND, "sb_1", "box").entries if entry.kind == "file"
    }
    assert "user:x:1000:1000" in files["/etc/passwd"]
    assert files["/etc/hostname"] == "box\n"
    assert "127.0.1.1\tbox" in files["/etc/hosts"]
    other = {entry.path: entry.content for entry in root_filesystem(FOUND, "sb_2", "box").entries}
    assert files["/etc/machine-id"] != other["/etc/machine-id"]
    assert len(files["/etc/machine-id"]) == 33


def test_links() -> None:
    links = {
        entry.path: entry.target for entry in root_filesystem(FOUND, "sb_1", "box").entries if entry.kind == "link"
    }
    assert links["/bin"] == "usr/bin"
    assert links["/etc/mime.types"] == "/usr/share/mime.types"
    assert links["/var/run"] == "/run"


def test_the_path_finds_what_is_shown() -> None:
    assert (
        root_filesystem(FOUND, "sb_1", "box", ("/data/tools",)).path
        == f"{host.BASE_PATH}:/data/tools/bin:/opt/python/bin"
    )


def test_a_host_path_that_covers_the_interpreter_shows_it_once() -> None:
    root = root_filesystem(FOUND, "sb_1", "box", ("/opt/python",))
    assert [bind.target for bind in root.binds].count("/opt/python") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/etc/ssh",
        "/root",
        "/home",
        "/proc/1",
        "/sys",
        "/dev/mem",
        "/run",
        "/var",
        "/boot/x",
        "/tmp",
        "/.cloche",
        "/usr/..",
        "/opt/../etc/ssh",
        "//etc//ssh/",
    ],
)
def test_host_paths_that_would_uncover_the_host_are_refused(path: str) -> None:
    with pytest.raises(InvalidError):
        check_host_path(path)


@pytest.mark.parametrize("path", ["/opt/conda", "/srv/ann/project", "/srv/data/", "/usr/local/cuda", "/var/lib/models"])
def test_one_directory_is_fine(path: str) -> None:
    assert check_host_path(path) == path.rstrip("/")


@pytest.mark.parametrize(
    ("prefix", "home", "shown"),
    [
        ("python/3.11", "home/ann", True),
        ("home/ann/.pyenv/versions/3.11", "home/ann", True),
        ("home/ann", "home/ann", False),
        ("home", "home/ann", False),
    ],
)
def test_the_interpreters_prefix(tmp_path: Path, prefix: str, home: str, shown: bool) -> None:
    place = tmp_path / prefix
    (place / "bin").mkdir(parents=True)
    (place / "lib").mkdir()
    (place / "bin/python3").touch()
    assert interpreter_prefix(str(place), str(tmp_path / home)) == (str(place) if shown else None)


def test_prefixes_that_are_no_interpreters_are_not_shown(tmp_path: Path) -> None:
    assert interpreter_prefix(str(tmp_path / "empty"), "/home/ann") is None
    for system in ("/usr", "/usr/local", "/opt", "/", "/home/ann"):
        assert interpreter_prefix(system, "/home/bob") is None
