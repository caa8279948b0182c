"""Which signatures count."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engines.vm import signatures
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.signatures import Trust
from cloche.model.errors import UnavailableError
from tests import package_mirror
from tests.package_mirror import Key

TEXT = "Suite: stable\n- a line that the format has to escape\nSHA256:\n"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory):
    with package_mirror.key(tmp_path_factory.mktemp("gpg") / "other") as made:
        yield made


def test_the_signed_text_comes_back(signing: Key) -> None:
    assert signatures.signed_text(signing.sign(TEXT), Trust(keyrings=(signing.keyring,))).strip() == TEXT.strip()


def test_another_key_a_changed_byte_and_no_signature_are_refused(signing: Key, other: Key) -> None:
    trusted = Trust(keyrings=(signing.keyring,))
    signed = signing.sign(TEXT)
    for wrong in (other.sign(TEXT), signed.replace(b"stable", b"stably"), TEXT.encode(), b"", signed[:-40]):
        with pytest.raises(DamagedError):
            signatures.signed_text(wrong, trusted)


def test_text_around_the_signed_part_is_refused(signing: Key) -> None:
    signed = signing.sign(TEXT)
    for wrong in (b"SHA256:\n evil\n\n" + signed, signed + b"\nSHA256: evil\n", signed + signed, b"\n" + signed):
        with pytest.raises(DamagedError, match="one signed message"):
            signatures.signed_text(wrong, Trust(keyrings=(signing.keyring,)))


def test_a_key_in_the_source_itself(signing: Key) -> None:
    field = "\n".join(line or "." for line in signing.armored().splitlines())
    trusted = signatures.trust(field)
    assert trusted.keys and not trusted.keyrings
    assert signatures.signed_text(signing.sign(TEXT), trusted)


def test_a_fingerprint_narrows_what_is_trusted(tmp_path: Path, signing: Key, other: Key) -> None:
    keyrings = tmp_path / "usr/share/keyrings"
    keyrings.mkdir(parents=True)
    (keyrings / "debian-archive-keyring.gpg").write_bytes(signing.keyring.read_bytes() + other.keyring.read_bytes())
    assert signatures.signed_text(signing.sign(TEXT), signatures.trust("", tmp_path))
    assert signatures.signed_text(signing.sign(TEXT), signatures.trust(signing.fingerprint() + "!", tmp_path))
    with pytest.raises(DamagedError):
        signatures.signed_text(signing.sign(TEXT), signatures.trust(other.fingerprint(), tmp_path))


def test_an_armored_keyring_and_several(tmp_path: Path, signing: Key, other: Key) -> None:
    parts = tmp_path / "etc/apt/trusted.gpg.d"
    parts.mkdir(parents=True)
    (parts / "a.asc").write_text(other.armored())
    (parts / "b.asc").write_text(signing.armored())
    assert signatures.signed_text(signing.sign(TEXT), signatures.trust("", tmp_path))
    (tmp_path / "c.asc").write_text(other.armored() + signing.armored())
    assert signatures.signed_text(signing.sign(TEXT), signatures.trust("/c.asc", tmp_path))


def test_what_is_missing_is_named_with_what_mends_it(tmp_path: Path, signing: Key) -> None:
    signed = signing.sign(TEXT)
    with pytest.raises(UnavailableError, match="gpgv is not installed") as caught:
        signatures.signed_text(signed, Trust(keyrings=(signing.keyring,)), gpgv="no-such-gpgv")
    assert "apt-get install gpgv debian-archive-keyring" in str(caught.value.remedy)
    for trusted in (signatures.trust("", tmp_path), Trust(keyrings=(tmp_path / "none",))):
        with pytest.raises(UnavailableError, match="no keyring") as caught:
            signatures.signed_text(signed, trusted)
        assert "--kernel PATH" in str(caught.value.remedy)


def test_a_damaged_keyring_trusts_nobody(tmp_path: Path, signing: Key) -> None:
    for content in (b"", b"noise", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n???\n-----END", bytes(1000)):
        (tmp_path / "ring").write_bytes(content)
        with pytest.raises(DamagedError):
            signatures.signed_text(signing.sign(TEXT), Trust(keyrings=(tmp_path / "ring",)))


GOOD = "[GNUPG:] GOODSIG AA x\n[GNUPG:] VALIDSIG AAAA 2026-01-01 1 0 4 0 1 10 00 BBBB\n"


@pytest.mark.parametrize(
    ("status", "trusted"),
    [
        (GOOD, True),
        ("[GNUPG:] NO_PUBKEY 1\n" + GOOD, True),
        ("[GNUPG:] BADSIG 1\n" + GOOD, False),
        ("[GNUPG:] REVKEYSIG 1\n" + GOOD, False),
        (GOOD.replace(" 10 00 ", " 2 00 "), False),
        (GOOD.replace("GOODSIG", "EXPKEYSIG"), False),
        (GOOD.replace("[GNUPG:] VALIDSIG", "VALIDSIG"), False),
        ("[GNUPG:] NO_PUBKEY 1\n", False),
        ("[GNUPG:]\n[GNUPG:] \nx\n", False),
        ("", False),
    ],
)
def test_verdicts(status: str, trusted: bool) -> None:
    assert signatures.is_trusted(status, frozenset()) is trusted
    assert signatures.is_trusted(status, frozenset({"BBBB"})) is trusted
    assert not signatures.is_trusted(status, frozenset({"CCCC"}))
