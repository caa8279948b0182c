"""Reading Debian packages."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from cloche.engines.vm import deb
from cloche.engines.vm.damaged import DamagedError
from tests.kernel_making import ar, tar

FILES = {"./boot/vmlinuz-1": b"kernel", "./usr/share/doc/x": b"no", "lib/modules/1/a.ko": b"module"}


def read(package: bytes, wanted=lambda path: "doc" not in path) -> dict[str, bytes]:
    return dict(deb.files(io.BytesIO(package), wanted))


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress), (".zst", zstd.compress)]
)
def test_only_what_is_wanted_comes_out(ending, pack) -> None:
    package = ar({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{ending}/": pack(tar(FILES))})
    assert read(package) == {"boot/vmlinuz-1": b"kernel", "lib/modules/1/a.ko": b"module"}


def test_links_devices_and_directories_are_not_files() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            entry = tarfile.TarInfo("boot/vmlinuz-1")
            entry.type, entry.linkname = kind, "/etc/shadow"
            archive.addfile(entry)
    assert read(ar({"data.tar": out.getvalue()})) == {}


def test_a_file_that_is_too_large_is_refused_before_it_is_read(monkeypatch) -> None:
    monkeypatch.setattr(deb, "MAX_FILE_BYTES", 5)
    with pytest.raises(DamagedError, match="too large"):
        read(ar({"data.tar": tar(FILES)}))


def test_a_package_of_too_many_files_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(deb, "MAX_FILES", 2)
    with pytest.raises(DamagedError, match="too many"):
        read(ar({"data.tar": tar(FILES)}))


@pytest.mark.parametrize(
    "package",
    [
        b"", b"!<arch>\n", b"no package", ar({"debian-binary": b"2.0\n"}), ar({"data.tar.xz": b"\xfd7zXZ\0garbage"}),
        ar({"data.tar.odd": b"?"}), ar({str(number): b"" for number in range(30)}),
        ar({"data.tar": tar(FILES)})[:600], b"!<arch>\n" + b"x" * 60, ar({"x": b"1"}).replace(b"`\n", b"``"),
        ar({"x": b""}).replace(b"0         `", b"9999999999`"),
    ],
)  # fmt: skip
def test_what_is_no_package_is_refused(package) -> None:
    with pytest.raises(DamagedError):
        read(package, lambda path: True)


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_refused(noise) -> None:
    for package in (b"!<arch>\n" + noise, ar({"data.tar": noise}), ar({"data.tar.gz": gzip.compress(noise)})):
        try:
            read(package, lambda path: True)
        except DamagedError:
            pass


@settings(deadline=None)
@given(st.data())
def test_a_byte_that_was_changed_does_no_harm(data) -> None:
    package = bytearray(ar({"data.tar": tar(FILES)}))
    for _ in range(data.draw(st.integers(1, 5))):
        package[data.draw(st.integers(0, len(package) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert sum(map(len, read(bytes(package), lambda path: True).values())) <= len(package)
    except DamagedError:
        pass
