"""Values that most programs do not expect, through the SDK and the command line, end to end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cloche import InvalidError, Sandbox
from tests.integration.bad_luck import CLI, cloche
from tests.integration.node_harness import ask

#: one variable may not be longer than 128 KiB for any Linux program, so a MiB takes several
MIB_OF_ENV = {f"BIG_{number}": chr(97 + number) * 65535 for number in range(16)}
SUM = "import os; print(sum(len(v) for k, v in os.environ.items() if k.startswith('BIG_')))"
TOTAL = f"{16 * 65535}\n"
ALL_BYTES = bytes(range(256))
ODD_NAMES = [b"new\nline", b"\xff\xfe", b" leading", b"-rf", b"tab\t", b"\x1b[31mred", b"caf\xc3\xa9", b"..."]


def test_a_mebibyte_of_environment(real_home: Path, sandbox: Sandbox) -> None:
    assert sandbox.exec("python3", "-c", SUM, env=MIB_OF_ENV).stdout == TOTAL
    with Sandbox.create(env=MIB_OF_ENV) as other:
        assert other.exec("python3", "-c", SUM).stdout == TOTAL
        assert Sandbox.from_id(other.id).info().spec.env == MIB_OF_ENV
    names = [part for name in MIB_OF_ENV for part in ("-e", name)]
    for command in (["exec", *names, sandbox.id], ["run", *names]):
        done = cloche(*command, "--", "python3", "-c", SUM, **MIB_OF_ENV)
        assert (done.returncode, done.stdout) == (0, TOTAL.encode()), done.stderr[-500:]


def test_a_session_file_of_a_mebibyte(real_home: Path, tmp_path: Path) -> None:
    session = tmp_path / "session.yaml"
    session.write_text("env:\n" + "".join(f"  {name}: {value}\n" for name, value in MIB_OF_ENV.items()))
    made = cloche("create", "-f", str(session))
    assert made.returncode == 0, made.stderr
    box = made.stdout.decode().strip()
    assert cloche("exec", box, "--", "python3", "-c", SUM).stdout == TOTAL.encode()
    assert cloche("rm", "-f", box).returncode == 0
    session.write_text(session.read_text() + "# more" * (1 << 20))
    refused = cloche("create", "-f", str(session))
    assert refused.returncode == 125 and b"larger" in refused.stderr


def test_what_no_kernel_takes_is_a_result(sandbox: Sandbox) -> None:
    for env in ({"BIG": "x" * (1 << 20)}, {f"BIG_{number}": "x" * 65535 for number in range(48)}):
        refused = sandbox.exec("true", env=env)
        assert refused.exit_code == 126 and "long" in (refused.error or "")
    assert sandbox.exec("true").ok


def test_nul_is_named_wherever_it_comes_in(real_home: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    for options in ({}, {"env": {"A": "b\0c"}}, {"env": {"A\0": "b"}}, {"cwd": "/tmp\0"}):
        argv = ("true",) if options else ("echo", "a\0b")
        with pytest.raises(InvalidError) as caught:
            sandbox.exec(*argv, **options)  # type: ignore[arg-type]
        assert caught.value.details["field"] == (next(iter(options), "argv"))
    with pytest.raises(InvalidError):
        sandbox.files.write("a\0b", "x")
    for body, field in (({"argv": ["a", "b\0"]}, "argv"), ({"argv": ["a"], "env": {"A": "\0"}}, "env")):
        status, answer = ask(real_home, "POST", f"/v1/sandboxes/{sandbox.id}/processes", body)
        assert (status, answer["error"]["details"]["field"]) == (422, field)
    (tmp_path / "nul.yaml").write_text('env: {A: "b\\0c"}\n')
    failed = cloche("create", "-f", str(tmp_path / "nul.yaml"))
    assert failed.returncode == 125 and b"env" in failed.stderr and b"Traceback" not in failed.stderr


def test_bytes_go_through_the_command_line_as_they_are(sandbox: Sandbox) -> None:
    data = ALL_BYTES * 4096 + b"\xff\xfe\xc3(\xed\xa0\x80 no newline"
    assert cloche("exec", "-i", sandbox.id, "--", "cat", stdin=data).stdout == data
    both = cloche("exec", "-i", sandbox.id, "--", "sh", "-c", "tee copy; cat copy >&2", stdin=data)
    assert (both.stdout, both.stderr) == (data, data)
    again = cloche("logs", sandbox.id)
    assert (again.stdout, again.stderr) == (data, data)
    assert cloche("run", "-i", "--", "cat", stdin=data).stdout == data
    assert sandbox.exec("cat", stdin=data).stdout_bytes == data


def test_bytes_go_through_arguments_and_environment_as_they_are(sandbox: Sandbox) -> None:
    word = bytes(set(range(1, 256)))
    assert cloche("exec", sandbox.id, "--", "printf", "%s", word).stdout == word
    env = [*CLI, "exec", "-e", "RAW", sandbox.id, "--", "printenv", "RAW"]
    raw = {**os.environb, b"RAW": word}
    assert subprocess.run(env, capture_output=True, env=raw, timeout=60).stdout == word + b"\n"
    with Sandbox.create(env={"RAW": os.fsdecode(word)}) as other:
        assert other.exec("printenv", "RAW").stdout_bytes == word + b"\n"


def test_names_of_any_bytes_go_both_ways(sandbox: Sandbox, tmp_path: Path) -> None:
    tree = os.fsencode(tmp_path) + b"/tree"
    os.mkdir(tree)
    for name in ODD_NAMES:
        with open(tree + b"/" + name, "wb") as file:
            file.write(name)
    assert cloche("cp", tree, f"{sandbox.id}:tree").returncode == 0
    assert {os.fsencode(info.name) for info in sandbox.files.list("tree")} == set(ODD_NAMES)
    code = "import os; print(all(open(n, 'rb').read() == n for n in os.listdir(b'.')), len(os.listdir(b'.')))"
    assert sandbox.exec("python3", "-c", code, cwd="/home/user/tree").stdout == f"True {len(ODD_NAMES)}\n"
    assert cloche("cp", f"{sandbox.id}:tree", os.fsencode(tmp_path) + b"/back").returncode == 0
    assert sorted(os.listdir(os.fsencode(tmp_path) + b"/back")) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        source, target = sandbox.id.encode() + b":tree/" + name, os.fsencode(tmp_path) + b"/one"
        assert cloche("cp", source, target).returncode == 0
        assert (tmp_path / "one").read_bytes() == name


def test_ten_thousand_files(sandbox: Sandbox, tmp_path: Path) -> None:
    code = "for n in range(10_000): open(f'many/{n:05}', 'w').write(str(n))"
    sandbox.files.mkdir("many")
    sandbox.exec("python3", "-c", code, check=True)
    listed = sandbox.files.list("many")
    assert [info.name for info in listed] == [f"{number:05}" for number in range(10_000)]
    assert sum(info.size for info in listed) == sum(len(str(number)) for number in range(10_000))
    assert cloche("cp", f"{sandbox.id}:many", str(tmp_path / "out")).returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        f"{number:05}": str(number) for number in range(10_000)
    }
    assert cloche("cp", str(tmp_path / "out"), f"{sandbox.id}:again").returncode == 0
    assert sandbox.exec("diff", "-r", "many", "again").ok
    tar = cloche("cp", f"{sandbox.id}:many", "-").stdout
    names = subprocess.run(["tar", "-t"], input=tar, capture_output=True, check=True).stdout.splitlines()
    assert len(names) == 10_001


def test_links_are_followed_on_no_side(sandbox: Sandbox, tmp_path: Path) -> None:
    secret, tree, out = tmp_path / "secret", tmp_path / "tree", tmp_path / "out"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    tree.mkdir()
    (tree / "file").symlink_to(secret / "key")
    (tree / "folder").symlink_to(secret)
    assert cloche("cp", str(tree), f"{sandbox.id}:tree").returncode == 0
    told = sandbox.exec("sh", "-c", "readlink tree/file; cat tree/file tree/folder/key")
    assert told.stdout == f"{secret}/key\n" and told.exit_code != 0
    links = (
        f"ln -s {secret} t/abs; ln -s ../../{secret.name} t/up; ln -s {secret}/key t/key; mkdir t/d; ln -s ../x t/d/ok"
    )
    sandbox.exec("sh", "-c", f"mkdir t; {links}; echo in > t/x", check=True)
    copied = cloche("cp", f"{sandbox.id}:t", str(out))
    assert copied.returncode == 1 and copied.stderr.count(b"left out") == 3
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["d", "d/ok", "x"]
    # what is there already on the host is no way out either
    (tmp_path / "trap/u").mkdir(parents=True)
    (tmp_path / "trap/u/sub").symlink_to(secret)
    sandbox.exec("sh", "-c", "mkdir -p u/sub; echo changed > u/sub/key", check=True)
    assert cloche("cp", f"{sandbox.id}:u", str(tmp_path / "trap")).returncode == 1
    sandbox.exec("sh", "-c", "echo changed > v", check=True)
    (tmp_path / "link").symlink_to(secret / "key")
    assert cloche("cp", f"{sandbox.id}:v", str(tmp_path / "link")).returncode == 0
    assert (secret / "key").read_text() == "of the host"


def test_wrong_requests_name_their_field(real_home: Path) -> None:
    for body, field in (
        ({"pids": 1}, "pids"),
        ({"limits": {"memory_mib": "x"}}, "limits.memory_mib"),
        ({"env": {"A": 1}}, "env"),
        ({"name": 7}, "name"),
        ({"ttl_seconds": -1}, "ttl_seconds"),
    ):
        status, answer = ask(real_home, "POST", "/v1/sandboxes", body)
        assert status == 422 and answer["error"]["details"]["field"].startswith(field), answer
