"""What this machine lets engines do that stand on the launcher, looked up once per node."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from cloche.engines.launched import cgroups, systemd
from cloche.images.host import HostSurvey, survey

SUBIDS_WANTED = 65536


@dataclass(frozen=True)
class SubIds:
    """A range from /etc/subuid and /etc/subgid and the setuid programs that map it."""

    uid_first: int
    gid_first: int
    count: int
    newuidmap: str
    newgidmap: str


@dataclass(frozen=True)
class Facts:
    uid: int
    gid: int
    subids: SubIds | None
    cgroups: cgroups.Layout | None
    host: HostSurvey
    launcher: Path
    guest: Path

    @property
    def id_mode(self) -> str:
        """ "range" (root), "helper" (newuidmap) or "one" (only the caller's own id)."""
        if self.uid == 0:
            return "range"
        return "helper" if self.subids else "one"

    @property
    def many_users(self) -> bool:
        return self.id_mode != "one"


def gather() -> Facts:
    """Look at the machine. Raises nothing: what is missing is None, and binaries are checked where they are used."""
    binaries = Path(__file__).resolve().parent.parent.parent / "_bin"
    return Facts(
        uid=os.geteuid(),
        gid=os.getegid(),
        subids=None if os.geteuid() == 0 else find_subids(),
        cgroups=find_cgroups(),
        host=survey(),
        launcher=binaries / "cloche-launcher",
        guest=binaries / "cloche-guest",
    )


def find_cgroups() -> cgroups.Layout | None:
    """What this process may divide already, or what the user's systemd gives it."""
    found = cgroups.find()
    if found is None and os.geteuid() != 0 and systemd.delegate():
        return cgroups.find()
    return found


def find_subids() -> SubIds | None:
    programs = shutil.which("newuidmap"), shutil.which("newgidmap")
    if not all(programs):
        return None
    name = _user_name()
    ranges = [parse_subids(_read(path), name, os.geteuid()) for path in ("/etc/subuid", "/etc/subgid")]
    if not all(ranges):
        return None
    (uid_first, uid_count), (gid_first, gid_count) = (found for found in ranges if found)
    return SubIds(uid_first, gid_first, min(uid_count, gid_count), str(programs[0]), str(programs[1]))


def parse_subids(text: str, name: str, uid: int) -> tuple[int, int] | None:
    """The first range of at least 65536 ids in subuid(5) text that belongs to the user: (first, 65536)."""
    for line in text.splitlines():
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and first.isdigit() and count.isdigit() and int(count) >= SUBIDS_WANTED:
            return int(first), SUBIDS_WANTED
    return None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
