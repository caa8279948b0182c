"""Abuse of the disk, and what a stop and a start must keep of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloche.engines.bench import Bench
from cloche.model.limits import Limits
from cloche.model.sandbox import SandboxSpec
from tests.integration.abuse import alive, boxes, over_a_stop, python

__all__ = ["boxes"]

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SMALL = SandboxSpec(limits=Limits(disk_mib=16))
#: everything about every entry of a tree that must come back; `links` groups names of one file
DESCRIBE = """
import hashlib, json, os, sys
found, inodes = {}, {}
for base, directories, files in os.walk(sys.argv[1]):
    for name in sorted(directories + files):
        path = os.path.join(base, name)
        st = os.lstat(path)
        kind = st.st_mode >> 12
        data = os.readlink(path) if kind == 0o12 else ""
        if kind == 0o10 and st.st_size < 1 << 24:
            data = hashlib.sha256(open(path, "rb").read()).hexdigest()
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in names}
        group = inodes.setdefault(st.st_ino, len(inodes)) if st.st_nlink > 1 and kind != 4 else None
        found[os.fsencode(path).hex()] = [st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, data, xattrs, group,
                                          st.st_nlink if kind != 4 else 0, st.st_size if kind == 0o10 else 0]
print(json.dumps(found, sort_keys=True))
"""


async def test_a_full_disk_is_told_and_survived(boxes: Bench) -> None:
    sandbox = await boxes.create(SMALL)
    done = await sandbox.exec("sh", "-c", "head -c 100000000 /dev/zero > large")
    assert (done.info.exit_code, done.info.limit_hit) == (1, "disk")
    usage = await boxes.engine.usage(sandbox.box)
    assert usage.disk_bytes is not None and usage.disk_bytes <= 17 * MIB
    await alive(sandbox)
    await sandbox.guest.remove("large")
    assert (await sandbox.exec("sh", "-c", "head -c 1000000 /dev/zero > small")).info.exit_code == 0


async def test_inodes_run_out_for_the_box_alone(boxes: Bench) -> None:
    sandbox = await boxes.create(SMALL)
    code = """
        import os
        for n in range(1 << 30):
            try: os.close(os.open(f"f{n}", os.O_CREAT))
            except OSError as error: print(n, error.errno); break
    """
    count, number = (await python(sandbox, code)).stdout.split()
    assert int(number) == 28
    assert int(count) < 20_000
    await alive(sandbox)
    again = await over_a_stop(boxes, sandbox)
    assert int((await again.exec("sh", "-c", "ls | wc -l")).stdout) == int(count)


@pytest.mark.slow
async def test_ten_thousand_files(boxes: Bench) -> None:
    sandbox = await boxes.create()
    await python(
        sandbox, "import os\nos.mkdir('many')\nfor n in range(10000): os.close(os.open(f'many/f\\n{n}', os.O_CREAT))"
    )
    async with sandbox.guest.list_files("many") as infos:
        names = {info.name async for info in infos}
    assert len(names) == 10_000
    assert "f\n9999" in names
    again = await over_a_stop(boxes, sandbox)
    async with again.guest.list_files("many") as infos:
        assert {info.name async for info in infos} == names


MAKE_EVERYTHING = r"""
import os, socket
os.umask(0)
os.makedirs("tree/inner"); os.chdir("tree")
open("plain", "w").write("content"); os.chmod("plain", 0o640)
open("setuid", "w").write("#!"); os.chmod("setuid", 0o6755)
open(b"caf\xe9\n\xff", "wb").write(bytes(range(256)))
os.link("plain", "inner/second"); os.link("plain", "third")
os.symlink("/etc/shadow", "away"); os.symlink("../../../../..", "out")
os.link("away", "away-too", follow_symlinks=False)
os.mkfifo("fifo", 0o600); os.link("fifo", "fifo-too")
socket.socket(socket.AF_UNIX).bind("socket")
with open("sparse", "wb") as file:
    file.truncate(1 << 40); file.seek(1 << 39); file.write(b"middle")
with open("fragmented", "wb") as file:
    for at in range(0, 2048):
        file.seek(at * 8192); file.write(b"x")
os.mkdir("closed", 0o000); os.mkdir("sticky"); os.chmod("sticky", 0o1777)
open("empty", "w").close()
os.setxattr("plain", "user.note", b"\0\xff"); os.setxattr("inner", "user.note", b"d" * 4000)
os.utime("plain", ns=(1, 1_000_000_007)); os.utime("away", ns=(1, 5), follow_symlinks=False)
os.utime("inner", ns=(1, 77))
os.utime("closed", ns=(1, 123456789))
os.utime(".", ns=(1, 99))
"""


async def test_a_stop_keeps_everything(boxes: Bench) -> None:
    sandbox = await boxes.create()
    made = await python(sandbox, MAKE_EVERYTHING)
    assert made.info.exit_code == 0, made.stderr
    assert (await sandbox.guest.stat("tree/socket")).type == "socket"
    await sandbox.guest.remove("tree/socket")
    await python(sandbox, "import os; os.utime('tree', ns=(1, 99))")
    before = json.loads((await python(sandbox, DESCRIBE, "/home/user")).stdout)
    assert len(before) > 15
    again = await over_a_stop(boxes, sandbox)
    after = json.loads((await python(again, DESCRIBE, "/home/user")).stdout)
    assert after == before
    # a terabyte of hole and a fragmented file cost what is in them
    assert Path(boxes.home, "state", sandbox.box.sandbox_id, "disk.saved").stat().st_size < 32 * MIB
    third = json.loads((await python(await over_a_stop(boxes, again), DESCRIBE, "/home/user")).stdout)
    assert third == before


async def test_owners_are_kept(boxes: Bench) -> None:
    if not boxes.capabilities.many_users:
        pytest.skip("there is only one user here")
    sandbox = await boxes.create()
    code = """
        import os
        for n in (0, 1, 1000, 65534):
            path = f"/var/lib/f{n}"
            open(path, "w").close(); os.chown(path, n, 65534 - n); os.chmod(path, 0o4750)
    """
    assert (await python(sandbox, code, user="root")).info.exit_code == 0
    before = (await python(sandbox, DESCRIBE, "/var/lib", user="root")).stdout
    again = await over_a_stop(boxes, sandbox)
    assert (await python(again, DESCRIBE, "/var/lib", user="root")).stdout == before


async def test_removed_and_replaced_files_of_the_image_stay_so(boxes: Bench) -> None:
    """Whiteouts and opaque directories: what the lower layer has may not come back."""
    sandbox = await boxes.create()
    user = "root" if boxes.capabilities.many_users else "user"
    code = """
        import os, shutil
        os.unlink("/etc/hosts"); os.unlink("/etc/shells"); os.unlink("/etc/hostname")
        shutil.rmtree("/var/cache"); os.mkdir("/var/cache"); open("/var/cache/mine", "w").close()
        shutil.rmtree("/var/tmp", ignore_errors=True)
        open("/etc/profile", "w").write("changed")
        os.rename("/etc/machine-id", "/etc/machine-id-moved")
    """
    made = await python(sandbox, code, user=user)
    assert made.info.exit_code == 0, made.stderr
    look = "ls -A /etc /var /var/cache; cat /etc/profile /etc/machine-id-moved"
    before = (await sandbox.exec("sh", "-c", look)).stdout
    assert b"hosts\n" not in before
    again = await over_a_stop(boxes, sandbox)
    assert (await again.exec("sh", "-c", look)).stdout == before
    assert (await (await over_a_stop(boxes, again)).exec("sh", "-c", look)).stdout == before


async def test_deep_directories_are_kept(boxes: Bench) -> None:
    """Deeper than any path can name, and than there may be open files."""
    sandbox = await boxes.create()
    down = """
        import os
        for _ in range(5000): os.mkdir("directory"); os.chdir("directory")
        open("bottom", "w").write("here")
    """
    assert (await python(sandbox, down)).info.exit_code == 0
    again = await over_a_stop(boxes, sandbox)
    look = "import os\nfor _ in range(5000): os.chdir('directory')\nprint(open('bottom').read())"
    assert (await python(again, look)).stdout == b"here\n"


async def test_many_long_names_far_down_do_not_fill_the_host(boxes: Bench) -> None:
    """Each record holds a name and no path: the saved disk grows with the number of files, not with its square."""
    sandbox = await boxes.create(SMALL)
    code = """
        import os
        for _ in range(900): os.mkdir("d" * 255); os.chdir("d" * 255)
        for n in range(5000): os.close(os.open(f"{n:0255}", os.O_CREAT))
    """
    assert (await python(sandbox, code)).info.exit_code == 0
    again = await over_a_stop(boxes, sandbox)
    assert Path(boxes.home, "state", again.box.sandbox_id, "disk.saved").stat().st_size < 8 * MIB
    await alive(again)


async def test_attributes_beyond_measure_do_not_stop_a_stop(boxes: Bench) -> None:
    sandbox = await boxes.create()
    code = """
        import os
        open("loaded", "w").write("kept")
        try:
            for n in range(200): os.setxattr("loaded", f"user.{n:03}" + "n" * 200, b"v" * 60000)
        except OSError: pass
    """
    assert (await python(sandbox, code)).info.exit_code == 0
    again = await over_a_stop(boxes, sandbox)
    assert await again.read("loaded") == b"kept"


async def test_a_full_disk_is_kept_and_comes_back(boxes: Bench) -> None:
    sandbox = await boxes.create(SMALL)
    code = "import os\nfor n in range(4): open(f's{n}', 'w').write('x'); os.link(f's{n}', f't{n}')"
    await python(sandbox, code)
    await sandbox.exec("sh", "-c", "head -c 100000000 /dev/zero > large")
    size = (await sandbox.guest.stat("large")).size
    again = await over_a_stop(boxes, sandbox)
    assert (await again.guest.stat("large")).size == size
    usage = await boxes.engine.usage(again.box)
    assert usage.disk_limit_bytes == 16 * MIB
    await alive(again)


async def test_links_never_lead_the_guest_out(boxes: Bench, tmp_path: Path) -> None:
    sandbox = await boxes.create()
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    secret.chmod(0o644)
    code = """
        import os, sys
        os.symlink(sys.argv[1], "direct"); os.symlink("../../../../../../" + sys.argv[1], "dots")
        os.symlink("/proc/1/root" + sys.argv[1], "proc")
    """
    await python(sandbox, code, str(secret))
    for name in ("direct", "dots", "proc"):
        with pytest.raises(Exception, match=r"(?i)not found|no such|permission|denied"):
            await sandbox.read(name)
