"""Root images with the real builder process: of this machine, of a directory, as root and as an ordinary user, on a
full disk, killed. Nothing is booted here."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.images import rootbuild
from cloche.images.hostroot import RootImage, directory_root, host_root, prune
from cloche.model.errors import EngineError, InvalidError, NoSpaceError, NotFoundError
from cloche.model.progress import Progress
from tests import ordinary_user
from tests.ordinary_user import OrdinaryUser
from tests.unit.images.erofs_reader import Image

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    (place / "bin").mkdir(parents=True)
    (place / "bin/tool").write_bytes(os.urandom(5000))
    (place / "bin/tool").chmod(0o755)
    (place / "bin/link").symlink_to("tool")
    (place / "new\nline\udcff").touch()
    return place


def built(home: Path, directory: Path) -> RootImage:
    return asyncio.run(directory_root(home, directory))


def test_the_image_of_a_directory(tmp_path: Path, root: Path) -> None:
    Path(f"{root}.owners.jsonl").write_text(json.dumps({"path": "bin/tool", "uid": 5, "gid": 6, "mode": 0o4711}))
    image = built(tmp_path / "home", root)
    files = Image(image.path).files()
    assert (files[b"bin/tool"].uid, files[b"bin/tool"].gid, files[b"bin/tool"].mode) == (5, 6, 0o104711)
    assert files[b"bin/tool"].content == (root / "bin/tool").read_bytes()
    assert set(files) == {b"", b"bin", b"bin/tool", b"bin/link", b"new\nline\xff"}
    assert built(tmp_path / "home", root) == image
    (root / "more").touch()
    assert built(tmp_path / "home", root).key != image.key


def test_what_is_said_meanwhile(tmp_path: Path, root: Path) -> None:
    said: list[Progress] = []
    os.mkfifo(root / "pipe")
    asyncio.run(directory_root(tmp_path / "home", root, said.append))
    assert said[0].unit == "bytes" and said[0].done == said[0].total > 0
    assert said[-1].summary == "left out: is no file, directory or link (1)"


def test_wrong_directories(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        built(tmp_path / "home", tmp_path / "none")
    with pytest.raises(InvalidError):
        built(tmp_path / "home", Path("a\0b"))
    (tmp_path / "home").write_text("a file")
    with pytest.raises(EngineError):
        built(tmp_path / "home", tmp_path)


def test_pruning_keeps_what_is_named(tmp_path: Path, root: Path) -> None:
    home = tmp_path / "home"
    first = built(home, root)
    (root / "more").touch()
    second = built(home, root)
    (rootbuild.store_of(home) / "killed.partial").write_bytes(b"x" * 5000)
    with first.path.open("rb") as held:
        assert asyncio.run(prune(home, {second.key})) > 0
        assert held.read(4096)
    left = {path.name for path in second.path.parent.iterdir()}
    assert left == {".lock", second.path.name, f"{second.key}.json"}
    assert asyncio.run(prune(home, [])) > 0 and asyncio.run(prune(home, [])) == 0


def test_the_working_directory_brings_no_code(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('code of the working directory')")
    monkeypatch.setenv("PYTHONPATH", str(ordinary_user.ROOT / "src"))
    monkeypatch.chdir(tmp_path)
    assert built(tmp_path / "home", root).path.exists()


def test_a_build_that_is_cancelled_ends(tmp_path: Path, root: Path) -> None:
    """And the next one is not disturbed by what it left."""

    async def cancelled() -> None:
        task = asyncio.ensure_future(directory_root(tmp_path / "home", root, lambda said: task.cancel()))
        with pytest.raises(asyncio.CancelledError):
            await task
            raise asyncio.CancelledError  # it may be done before it learns of it

    asyncio.run(cancelled())
    assert built(tmp_path / "home", root).path.exists()
    assert {path.suffix for path in rootbuild.store_of(tmp_path / "home").iterdir()} == {"", ".erofs", ".json"}


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from cloche.images import rootbuild
def die(*args, **more): os.kill(os.getpid(), signal.SIGKILL)
step = sys.argv[1]
if step in ("rename", "fsync"): setattr(os, step, die)
else: setattr(rootbuild, step, die)
rootbuild.main([sys.argv[2], "directory", sys.argv[3]])
"""


@pytest.mark.parametrize("step", ["_check_room", "fsync", "_fsck", "_write_text", "rename"])
def test_a_builder_killed_at_any_step(tmp_path: Path, root: Path, step: str) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, step, str(home), str(root)], capture_output=True, timeout=60
    )
    assert done.returncode == -9, done.stderr
    image = built(home, root)
    assert {path.name for path in image.path.parent.iterdir()} == {".lock", image.path.name, f"{image.key}.json"}
    assert Image(image.path).files()[b"bin/link"].content == b"tool"


FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from cloche.engines.vm import disks
from cloche.images import rootbuild
from cloche.images.hostroot import directory_root
from cloche.model.errors import NoSpaceError
home, root = Path(sys.argv[1]), Path(sys.argv[2])
for check in (True, False):
    if not check: rootbuild._check_room = lambda *args: None
    try: rootbuild.build(rootbuild.store_of(home), lambda left: rootbuild.owners.directory_tree(root, left))
    except NoSpaceError as error: print("root", error.details["needed_bytes"] > 0)
(home / "source").write_bytes(b"x" * 700000)
try: disks.copy_disk(home / "source", home / "copy")
except NoSpaceError: print("copy")
(home / "source").unlink()
print(sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()))
"""


def test_a_full_disk(tmp_path: Path, root: Path) -> None:
    """A tmpfs of 1 MiB in a mount namespace that ends with the process."""
    home = tmp_path / "home"
    home.mkdir()
    (root / "large").write_bytes(os.urandom(2 << 20))
    mounted = 'mount -t tmpfs -o size=1m none "$1" && exec "$0" -c "$3" "$1" "$2"'
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    command = [*unshare, "sh", "-c", mounted, sys.executable, str(home), str(root), FULL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unshare:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    assert done.stdout.splitlines() == ["root True", "root True", "copy", "['images/erofs/.lock']"], done.stderr
    assert list(home.iterdir()) == []


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    if os.geteuid() != 0:
        pytest.skip("only root can make users; the tests above have run as this user already")
    with ordinary_user.made("cloche-test1") as made:
        yield made


@pytest.mark.rootless
def test_as_an_ordinary_user(user: OrdinaryUser) -> None:
    """The same image as root's, its owners too, and what the user cannot read is left out by name."""
    code = (
        "import asyncio, json, os, sys\n"
        "from pathlib import Path\n"
        "from cloche.images.hostroot import directory_root\n"
        "from cloche.images import rootbuild\n"
        "home = Path.home()\n"
        "(home / 'root/home/user').mkdir(parents=True)\n"
        "(home / 'root/closed').touch(0o000); (home / 'root/mine').touch(0o600)\n"
        "owner = {'path': 'home/user', 'uid': 1000, 'gid': 1000, 'mode': 0o700}\n"
        "(home / 'root.owners.jsonl').write_text(json.dumps(owner))\n"
        "image = asyncio.run(directory_root(home / 'c', home / 'root'))\n"
        "print(image.path); print(json.loads(image.path.with_suffix('.json').read_text())['left_out'])\n"
    )
    done = ordinary_user.as_user(user, code)
    assert done.returncode == 0, done.stderr
    path, left = done.stdout.splitlines()
    assert left == f"{{'{user.home}/root/closed': 'cannot be read: Permission denied'}}"
    files = Image(Path(path)).files()
    assert (files[b"home/user"].uid, files[b"home/user"].mode) == (1000, 0o40700)
    assert (files[b"mine"].uid, files[b"mine"].gid) == (0, 0)
    assert ordinary_user.processes_of(user.uid) == []


LOOK_INSIDE = 'mount -t erofs -o ro,loop "$1" /mnt && cd /mnt && exec "$0" -c "$2"'
INSIDE = """
import os
print(os.path.isfile(os.path.realpath("/mnt/bin/sh")), oct(os.stat("usr/bin/env").st_mode))
print(os.stat("home/user").st_uid, open("etc/hostname").read().strip(), os.listdir("tmp"), os.path.exists("etc/shadow"))
paths = [os.path.join(place, name) for place, _, names in os.walk("usr") for name in names]
print([path for path in paths if os.lstat(path).st_mode & 0o6000], [path for path in paths if "share/doc/" in path])
"""


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(900)
def test_the_image_of_this_machine(tmp_path: Path) -> None:
    """Built once, found again by signs and by a full look, and readable by the kernel where this may mount."""
    said: list[Progress] = []
    home = tmp_path / "home"
    try:
        image = asyncio.run(host_root(home, said.append))
    except NoSpaceError as error:
        pytest.skip(error.message)
    try:
        assert said[0].unit == "bytes" and any(each.summary.startswith("left out") for each in said)
        assert image.path.stat().st_size == image.bytes
        again = asyncio.run(host_root(home, thorough=True))
        assert asyncio.run(host_root(home)) == again
        if shutil.which("dump.erofs"):
            dumped = subprocess.run(
                ["dump.erofs", "--path=/usr/bin/env", str(image.path)], capture_output=True, text=True
            )
            assert "0755" in dumped.stdout, dumped
        if os.geteuid() == 0:
            _look_inside(image.path)
    finally:
        asyncio.run(prune(home, []))


def _look_inside(image: Path) -> None:
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        LOOK_INSIDE,
        sys.executable,
        str(image),
        INSIDE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "mount:" in done.stderr:
        pytest.skip(f"erofs cannot be mounted here: {done.stderr}")
    assert done.stdout.splitlines() == ["True 0o100755", "1000 cloche [] False", "[] []"], done.stderr
