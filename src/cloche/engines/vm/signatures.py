"""Whether a mirror's InRelease was signed by a key that this machine trusts, asked from gpgv.

What is believed is what gpgv gives back: text around the signed part never gets anywhere."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cloche.engines.vm.damaged import DamagedError
from cloche.model.errors import UnavailableError

GPGV_SECONDS = 30
MAX_KEY_BYTES = 4 << 20
KEYRINGS = "usr/share/keyrings"
DISTRIBUTIONS = ("debian", "ubuntu")
OTHERWISE = "or take a kernel that is here: cloche setup vm --kernel PATH --modules DIR"
INSTALL = f"sudo apt-get install gpgv debian-archive-keyring ({OTHERWISE})"
_BEGIN, _SIGNATURE = b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----BEGIN PGP SIGNATURE-----"
_END = b"-----END PGP SIGNATURE-----"
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}!?")
#: of gpgv's verdicts those that make another signature's word worth nothing
_BAD = ("BADSIG", "REVKEYSIG")
#: MD5, SHA-1, RIPEMD-160, as OpenPGP numbers them
_WEAK = ("1", "2", "3")


class Trust(NamedTuple):
    """Keys as files or as their content; with `fingerprints` only these of them."""

    keyrings: tuple[Path, ...] = ()
    keys: tuple[bytes, ...] = ()
    fingerprints: frozenset[str] = frozenset()


def trust(signed_by: str, root: Path = Path("/")) -> Trust:
    """What a source's Signed-By means; "" and bare fingerprints stand for the keys of the distribution."""
    if "BEGIN PGP PUBLIC KEY BLOCK" in signed_by:
        return Trust(keys=(_armored(signed_by),))
    words = signed_by.replace(",", " ").split()
    fingerprints = frozenset(word.rstrip("!").upper() for word in words if _FINGERPRINT.fullmatch(word))
    paths = tuple(root / word.lstrip("/") for word in words if word.startswith("/"))
    return Trust(paths or distribution_keyrings(root), (), fingerprints)


def distribution_keyrings(root: Path = Path("/")) -> tuple[Path, ...]:
    """What apt believes when a source names no key, and the archive keys that a package brought."""
    apt = root / "etc/apt"
    found = [apt / "trusted.gpg", *sorted((apt / "trusted.gpg.d").glob("*.gpg")),
             *sorted((apt / "trusted.gpg.d").glob("*.asc"))]  # fmt: skip
    names = [f"{name}-archive-keyring.{ending}" for name in DISTRIBUTIONS for ending in ("gpg", "pgp")]
    return tuple(path for path in (*found, *(root / KEYRINGS / name for name in names)) if path.is_file())


def signed_text(in_release: bytes, trusted: Trust, gpgv: str = "gpgv") -> str:
    """The text that a trusted key has signed. Raises DamagedError when none has, UnavailableError when that cannot be
    found out here."""
    _check_shape(in_release)
    program = shutil.which(gpgv)
    if program is None:
        raise UnavailableError("gpgv is not installed, so no mirror's signature can be checked", remedy=INSTALL)
    with tempfile.TemporaryDirectory(prefix="cloche-gpgv-") as place:
        keyrings = _binary_keyrings(trusted, Path(place))
        if not keyrings:
            raise UnavailableError("there is no keyring to check the mirror's signature with", remedy=INSTALL)
        return _ask([program, "--homedir", place], keyrings, in_release, trusted.fingerprints)


def is_trusted(status: str, fingerprints: frozenset[str]) -> bool:
    """Whether gpgv's status lines show a good signature of one of these keys (any, when none are named) and no bad
    one. A signature of a key that is not there says nothing: archives sign with their next key too."""
    words = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    verdicts = {found[0] for found in words if found}
    valid = [found for found in words if found[:1] == ["VALIDSIG"] and len(found) >= 10 and found[8] not in _WEAK]
    keys = {key.upper() for found in valid for key in (found[1], found[-1])}
    return "GOODSIG" in verdicts and not verdicts & set(_BAD) and bool(keys & fingerprints if fingerprints else keys)


def _check_shape(in_release: bytes) -> None:
    """One signed message and nothing else, so that there is nothing else to be taken for it."""
    marks = [in_release.count(mark) for mark in (_BEGIN, _SIGNATURE, _END)]
    if marks != [1, 1, 1] or not in_release.startswith(_BEGIN) or not in_release.rstrip().endswith(_END):
        raise DamagedError("it is not one signed message")


def _binary_keyrings(trusted: Trust, place: Path) -> list[Path]:
    found = [*_contents(trusted.keyrings), *trusted.keys]
    paths = [place / f"{number}.gpg" for number in range(len(found))]
    for path, content in zip(paths, found, strict=True):
        path.write_bytes(_dearmored(content))
    return paths


def _contents(paths: Sequence[Path]) -> list[bytes]:
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                found.append(file.read(MAX_KEY_BYTES))
        except OSError:
            continue
    return found


def _ask(command: list[str], keyrings: Sequence[Path], in_release: bytes, fingerprints: frozenset[str]) -> str:
    place = Path(command[-1])
    signed = place / "in"
    signed.write_bytes(in_release)
    rings = [word for path in keyrings for word in ("--keyring", str(path))]
    argv = [*command, "--status-fd", "1", "--weak-digest", "SHA1", *rings, "--output", str(place / "out"), str(signed)]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=GPGV_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"gpgv does not work here: {error}", remedy=INSTALL) from error
    if not is_trusted(done.stdout.decode("utf-8", "replace"), fingerprints):
        raise DamagedError("no key that this machine trusts has signed it")
    try:
        return (place / "out").read_text("utf-8", "replace")
    except OSError as error:
        raise UnavailableError(f"this gpgv gives no signed text back: {error}", remedy=INSTALL) from error


def _armored(signed_by: str) -> bytes:
    """A key inside a field: a line with a dot alone stands for an empty one."""
    lines = [line.strip() for line in signed_by.strip().splitlines()]
    return "\n".join("" if line == "." else line for line in lines).encode()


def _dearmored(content: bytes) -> bytes:
    """Older gpgv reads binary keyrings only."""
    if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" not in content:
        return content
    blocks = content.split(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")[1:]
    return b"".join(_block(block.partition(b"-----END")[0]) for block in blocks)


def _block(armored: bytes) -> bytes:
    lines = [line.strip() for line in armored.strip().splitlines()]
    body = lines[lines.index(b"") + 1 :] if b"" in lines else [line for line in lines if b":" not in line]
    data = b"".join(line for line in body if not line.startswith(b"="))
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return b""
