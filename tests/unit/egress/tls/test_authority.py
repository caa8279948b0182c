"""The authority's file, and what its certificates say."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import stat
import subprocess
import sys

import pytest
from cryptography import x509

from cloche.egress.tls import authority, certificates
from cloche.egress.tls.authority import Authority, AuthorityError


def the_file(home):
    return home / "egress" / "authority.pem"


def test_it_is_made_once_and_found_again(tmp_path):
    first, again = Authority.open(tmp_path), Authority.open(tmp_path)
    assert first.pem == again.pem and "PRIVATE" not in first.pem
    assert stat.S_IMODE(the_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(the_file(tmp_path).parent.stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "egress") == ["authority.pem"]


def test_processes_that_start_at_once_make_one(tmp_path):
    code = "import sys, pathlib; from cloche.egress.tls.authority import Authority; sys.stdin.read(); "
    code += "print(Authority.open(pathlib.Path(sys.argv[1])).pem)"
    argv = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in running:
        process.stdin.close()
    found = {process.stdout.read() for process in running}
    for process in running:
        process.stdout.close()
        assert process.wait() == 0
    assert len(found) == 1 and os.listdir(tmp_path / "egress") == ["authority.pem"]


def test_the_loser_of_the_race_takes_the_winners(tmp_path):
    winner = Authority.open(tmp_path)
    assert authority._create(the_file(tmp_path)).pem == winner.pem


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_could_read_is_not_used(tmp_path, mode):
    Authority.open(tmp_path)
    the_file(tmp_path).chmod(mode)
    with pytest.raises(AuthorityError) as caught:
        Authority.open(tmp_path)
    assert "rm " in caught.value.remedy


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_file_is_not_used(tmp_path, damage):
    Authority.open(tmp_path)
    the_file(tmp_path).write_bytes(damage)
    with pytest.raises(AuthorityError, match="damaged"):
        Authority.open(tmp_path)


def test_a_key_of_another_certificate_is_not_used(tmp_path):
    Authority.open(tmp_path)
    the_file(tmp_path).write_bytes(certificates.key_pem(Authority.new()._key) + Authority.new().pem.encode())
    with pytest.raises(AuthorityError, match="damaged"):
        Authority.open(tmp_path)


def test_a_link_is_not_followed(tmp_path):
    Authority.open(tmp_path / "other")
    the_file(tmp_path).parent.mkdir()
    the_file(tmp_path).symlink_to(the_file(tmp_path / "other"))
    with pytest.raises(AuthorityError):
        Authority.open(tmp_path)


def test_one_that_ends_soon_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "LIFE", datetime.timedelta(days=30))
    old = Authority.open(tmp_path)
    monkeypatch.undo()
    new = Authority.open(tmp_path)
    assert new.pem != old.pem and Authority.open(tmp_path).pem == new.pem


def test_what_its_certificate_says():
    made = x509.load_pem_x509_certificate(Authority.new().pem.encode())
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value.ca and basic.value.path_length == 0
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert made.not_valid_after_utc - made.not_valid_before_utc > datetime.timedelta(days=3600)


@pytest.mark.parametrize(
    "host", ["api.example.com", "_odd.example", "a" * 63 + "." + "b" * 60 + ".example", "192.0.2.1", "::1"]
)
def test_a_leaf_names_one_host_for_days(host):
    made = Authority.new()
    leaf = made.certificate(host)
    (name,) = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value in (host, ipaddress.ip_address(host) if host[0] in "1:" else None)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= datetime.timedelta(days=7)


@pytest.mark.parametrize("host", ["api.example.com", "192.0.2.1", "::1"])
def test_strict_clients_accept_it(host):
    made = Authority.new()
    client = ssl.create_default_context(cadata=made.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(client, made.context(host), host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, made.context(host), "other.example")


def shake_hands(client_context, server_context, host):
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass


def test_contexts_are_kept_but_not_for_ever(monkeypatch):
    made = Authority.new()
    assert made.context("a.example") is made.context("a.example")
    monkeypatch.setattr(authority, "MAX_CONTEXTS", 3)
    first = made.context("a.example")
    for host in "bcd":
        made.context(f"{host}.example")
    assert len(made._contexts) == 3 and made.context("a.example") is not first
    monkeypatch.setattr(authority, "CONTEXT_SECONDS", -1)
    assert made.context("d.example") is not made.context("d.example")


def test_a_name_that_no_certificate_carries():
    with pytest.raises(ValueError):
        Authority.new().context("bücher.example")


def test_a_process_that_nobody_may_look_into_makes_contexts_too():
    """As in the door: its own /proc/self belongs to root then."""
    code = """import ctypes, os, sys, encodings.idna
from cloche.egress.tls.authority import Authority
made = Authority.new()
made.context("before.example")
os.getuid() or os.setuid(65534)
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
made.context("a.example")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
