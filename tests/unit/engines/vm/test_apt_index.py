"""Release and Packages of a mirror, and the order of versions."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import apt_index
from cloche.engines.vm.apt_index import File
from cloche.engines.vm.damaged import DamagedError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HASH = "ab" * 32
RELEASE = f"""Suite: stable
Codename: name
Valid-Until: Sat, 03 Jan 2026 00:00:00 UTC
Acquire-By-Hash: yes
MD5Sum:
 {"0" * 32} 5 main/binary-amd64/Packages.xz
SHA256:
 {HASH} 5 main/binary-amd64/Packages.xz
 {HASH} 5 ../../etc/passwd
 {HASH} 5 /etc/passwd
 {HASH} -5 main/a
 {HASH} 5 a b
 zz 5 main/b
 {HASH} 99999999999999999999 main/c
 {HASH} 5 main/.hidden
"""
PACKAGE = f"Package: linux-image-1\nVersion: 1-1\nDepends: a\nFilename: pool/x.deb\nSize: 3\nSHA256: {HASH}\n"
EITHER = re.compile(rb"linux-image-.*")


def test_a_release_names_files() -> None:
    found = apt_index.release(RELEASE, NOW)
    assert found.files == {"main/binary-amd64/Packages.xz": File("main/binary-amd64/Packages.xz", 5, HASH)}
    assert (found.suite, found.by_hash, found.only_when_asked) == ("name", True, False)
    assert apt_index.release(RELEASE.replace("Codename", "NotAutomatic: yes\nX"), NOW).only_when_asked


def test_a_release_that_is_too_old_is_refused_unless_the_source_says_so() -> None:
    later = datetime(2026, 1, 4, tzinfo=UTC)
    with pytest.raises(DamagedError, match="valid until"):
        apt_index.release(RELEASE, later)
    assert apt_index.release(RELEASE, later, check_valid_until=False)
    assert apt_index.release(RELEASE.replace("Valid-Until", "X"), later)
    for date in ("never", "Sat, 99 Jan 2026", ""):
        text = re.sub("Valid-Until: .*", f"Valid-Until: {date}", RELEASE)
        if date:
            with pytest.raises(DamagedError, match="no date"):
                apt_index.release(text, NOW)


@settings(deadline=None)
@given(st.text(max_size=400))
def test_noise_names_no_files(noise) -> None:
    with pytest.raises(DamagedError):
        apt_index.release(noise, NOW)


def test_packages_are_found_however_the_pieces_fall() -> None:
    text = f"Package: other\nVersion: 1\n\n{PACKAGE}\n{PACKAGE.replace('image-1', 'image-2')}".encode()
    for size in (1, 7, 64, 10_000):
        pieces = (text[at : at + size] for at in range(0, len(text), size))
        found = list(apt_index.packages(pieces, EITHER))
        assert [package.name for package in found] == ["linux-image-1", "linux-image-2"]
        assert found[0].file == File("pool/x.deb", 3, HASH)


@pytest.mark.parametrize(
    ("field", "value"),
    [("Filename", "../x"), ("Filename", "/x"), ("Filename", "a/../b"), ("Filename", "a?b"), ("Filename", ""),
     ("Size", "-1"), ("Size", "1e9"), ("SHA256", "0"), ("Version", "a b"), ("Version", "x\x1b")],
)  # fmt: skip
def test_a_package_that_could_not_be_asked_for_is_passed_over(field, value) -> None:
    text = re.sub(f"{field}: .*", f"{field}: {value}", PACKAGE)
    assert list(apt_index.packages([text.encode()], EITHER)) == []


def test_an_endless_paragraph_is_refused() -> None:
    with pytest.raises(DamagedError, match="too long"):
        list(apt_index.packages(iter([b"x" * 100_000] * 20), EITHER))


def test_the_dependency_that_is_meant() -> None:
    wanted = re.compile("linux-image-.*")
    for text, found in {
        "linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1)": ("linux-image-6.1.0-1-cloud-amd64", "6.1.1-1"),
        "a, linux-image-2": ("linux-image-2", None),
        "linux-image-3:any (= 1) | other": ("linux-image-3", "1"),
        "linux-image-4 (>= 1)": None,
        "": None,
        "nothing": None,
    }.items():
        assert apt_index.dependency(text, wanted) == found


ORDERED = ["0~~1", "0~1", "0", "1~rc1-1", "1", "1-0+a", "1-0.1", "1.0-9", "1.0-10", "1.0a", "1.0+x", "1.2", "1.10",
           "1:0"]  # fmt: skip


def test_versions_in_their_order() -> None:
    if dpkg := shutil.which("dpkg"):
        for older, newer in itertools.pairwise(ORDERED):
            subprocess.run([dpkg, "--compare-versions", older, "lt", newer], check=True)
    assert sorted(set(ORDERED), key=apt_index.version_key) == ORDERED
    assert not apt_index.newer("1", "1") and not apt_index.newer("1-0", "1") and not apt_index.newer("0:1.00", "1.0")
    assert apt_index.newer("6.1.192-10", "6.1.192-2")
    for wrong in ("", "a b", "1:2:3", "x" * 300, "1\n"):
        with pytest.raises(DamagedError):
            apt_index.newer(wrong, "1")


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not installed")
@settings(max_examples=60, deadline=None)
@given(*[st.from_regex(r"[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?", fullmatch=True)] * 2)
def test_versions_are_in_dpkgs_order(one, other) -> None:
    done = subprocess.run(["dpkg", "--compare-versions", one, "gt", other])
    assert apt_index.newer(one, other) == (done.returncode == 0)
