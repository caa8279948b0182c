"""Where values come from; what fails says why and never the value."""

from __future__ import annotations

import os
import sys
import types

import pytest

from cloche.egress.secrecy import secret_sources
from cloche.egress.secrecy.secret_sources import MAX_VALUE_BYTES, SecretUnreadableError, checked_value, read_secret
from cloche.model.egress import SecretSource
from cloche.model.errors import InvalidError

pytestmark = pytest.mark.anyio

VALUE = "hunter2-hunter2"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


def a_file(tmp_path, data, mode=0o600):
    path = tmp_path / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return SecretSource(file=str(path))


def python(code):
    return SecretSource(command=[sys.executable, "-c", code])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_a_file_without_the_newline_at_its_end(tmp_path, end):
    assert await read_secret("T", a_file(tmp_path, VALUE.encode() + end)) == VALUE


async def test_a_file_that_others_can_read_is_used_with_a_warning(tmp_path, caplog):
    assert await read_secret("T", a_file(tmp_path, VALUE.encode(), 0o644)) == VALUE
    assert "chmod 600" in caplog.text and VALUE not in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        f"{VALUE}\nX: y".encode(),
        f"{VALUE}\0".encode(),
        b"\xff" + VALUE.encode(),
        b"x" * (MAX_VALUE_BYTES + 1),
    ],
)
async def test_what_no_header_can_carry(tmp_path, data):
    with pytest.raises(InvalidError) as caught:
        await read_secret("T", a_file(tmp_path, data))
    assert caught.value.details["secret"] == "T" and VALUE not in repr(caught.value) + str(caught.value.__context__)


async def test_the_largest_value(tmp_path):
    assert len(await read_secret("T", a_file(tmp_path, b"x" * MAX_VALUE_BYTES + b"\r\n"))) == MAX_VALUE_BYTES


async def test_what_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(SecretUnreadableError):
            await read_secret("T", SecretSource(file=str(path)))


async def test_a_source_that_says_nothing():
    with pytest.raises(InvalidError):
        await read_secret("T", SecretSource())


async def test_a_commands_output():
    assert await read_secret("T", python(f"print({VALUE!r})")) == VALUE


async def test_no_shell_looks_at_a_command():
    assert await read_secret("T", SecretSource(command=["echo", "$HOME;", "`id`"])) == "$HOME; `id`"


@pytest.mark.parametrize("code", [f"print({VALUE!r}); raise SystemExit(3)", f"import sys; sys.exit({VALUE!r})"])
async def test_a_command_that_fails_says_its_status_alone(code, capfd):
    with pytest.raises(SecretUnreadableError, match="status") as caught:
        await read_secret("T", python(code))
    assert VALUE not in str(caught.value) and VALUE not in "".join(capfd.readouterr())


async def test_a_command_that_is_not_there():
    with pytest.raises(SecretUnreadableError):
        await read_secret("T", SecretSource(command=["/nowhere/at-all"]))


async def test_endless_output_is_cut_off_and_its_group_ends(tmp_path):
    endless = python("import os; os.write(2, str(os.getpid()).encode())\nwhile True: os.write(1, b'x' * 4096)")
    with pytest.raises(InvalidError):
        await read_secret("T", endless)


async def test_a_command_that_never_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(secret_sources, "TIMEOUT_SECONDS", 0.3)
    note = tmp_path / "pid"
    code = f"import os, signal; open({str(note)!r}, 'w').write(str(os.getpid())); signal.pause()"
    with pytest.raises(SecretUnreadableError):
        await read_secret("T", python(code))
    if note.exists() and note.read_text():
        with pytest.raises(ProcessLookupError):
            os.kill(int(note.read_text()), 0)


class Backend(types.ModuleType):
    def get_password(self, service, user):
        if service == "locked":
            raise RuntimeError(VALUE)
        return {("api/x", "me"): VALUE}.get((service, user))


async def test_the_keyring(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", Backend("keyring"))
    assert await read_secret("T", SecretSource(keyring="api/x/me")) == VALUE
    with pytest.raises(SecretUnreadableError, match="no entry"):
        await read_secret("T", SecretSource(keyring="api/x/you"))
    with pytest.raises(SecretUnreadableError) as caught:
        await read_secret("T", SecretSource(keyring="locked/me"))
    assert VALUE not in str(caught.value)


def test_a_value_that_a_client_gives():
    assert checked_value("T", VALUE + "\n") == VALUE
    with pytest.raises(InvalidError):
        checked_value("T", "a\nb")
