"""What of this machine goes into the `host` image of a virtual machine, and what does not, with the reason.

It is the root that the namespace engine shows (images/host.py), but as a copy: a machine of its own cannot see the
host's /usr. A copy costs disk and time for each megabyte, so what no program reads to run stays out: three plain lists
below, and one rule about size. What is left out is written beside the image.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator

from cloche.images.host import HostSurvey, RootFilesystem, root_filesystem
from cloche.images.tree import VERSION, LeftOut, Node, Owner, Rules, graft, scan, skeleton, tree_bytes

HOSTNAME = "cloche"  # every wake writes the sandbox's own

#: directories of /usr that stay, empty: installers put files into some of them
EMPTIED = {
    "documentation": (
        "share/doc", "share/doc-base", "share/man", "share/info", "share/lintian", "share/bug", "share/gtk-doc",
        "share/help", "local/share/doc", "local/share/man", "local/share/info", "local/doc", "local/man",
    ),
    "only for a screen": ("share/icons", "share/backgrounds", "share/wallpapers", "share/sounds", "share/themes"),
    "games": ("games", "share/games", "lib/games", "local/games"),
    "for the host's own kernel": ("lib/modules", "lib/firmware", "src", "lib/kernel"),
    "only for a debugger": ("lib/debug",),
}  # fmt: skip
_WHY = {os.fsencode(path): why for why, paths in EMPTIED.items() for path in paths}

#: translations of messages; the guest's programs speak English
LANGUAGES = (b"share/locale", b"local/share/locale")
LANGUAGES_KEPT = ("C", "C.*", "POSIX", "en", "en_*", "en@*")

#: an application's own tree larger than this is left out: an SDK, a suite, a toolkit for hardware that is not there
HUGE_BYTES = 1 << 30
HUGE_PLACES = (b"lib", b"libexec", b"share", b"local", b"local/lib")
#: directories there that belong to no one application: the loader and the languages look into them
SHARED = (
    "*-linux-*", "bin", "sbin", "lib", "lib64", "libexec", "include", "share", "etc", "python*", "pypy*",
    "node_modules", "nodejs", "perl*", "ruby*", "R", "gems", "jvm", "java", "php*", "gcc*", "llvm*", "clang*", "go",
    "go-*", "rustlib", "ghc*", "ocaml", "erlang", "julia*", "tcltk", "locale", "dotnet",
)  # fmt: skip
TOO_LARGE = "one application's tree of more than 1 GiB"

#: changes when a program was installed, whatever it put where
PACKAGE_DATABASES = (
    "/var/lib/dpkg/status", "/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/pacman/local", "/lib/apk/db/installed",
    "/etc/ld.so.cache",
)  # fmt: skip
SIGN_DEPTH = 4


def host_tree(found: HostSurvey, left: LeftOut) -> Node:
    """The whole root, from the machine as it is now. Takes seconds: not for an event loop."""
    files = root_filesystem(found, "", HOSTNAME)
    root = skeleton(files.entries)
    for source, target in _sources(files):
        rules = USR if source == "/usr" else PLAIN
        node = scan(os.fsencode(source), rules, left)
        if node is not None:
            graft(root, os.fsencode(target), node)
    _drop_huge(root.children[b"usr"], left)
    return root


def _sources(files: RootFilesystem) -> list[tuple[str, str]]:
    """Parents first, or a directory that comes late would hide what was put into its place."""
    return sorted((bind.source, bind.target) for bind in files.binds)


def _roots_owner(_path: bytes, found: os.stat_result) -> Owner:
    """Root's, without setuid and setgid: the guest needs none, and what it does not have nobody can misuse."""
    return Owner(0, 0, stat.S_IMODE(found.st_mode) & 0o1777)


def _why_emptied(path: bytes) -> str | None:
    parent, name = os.path.split(path)
    if parent in LANGUAGES and not any(fnmatch.fnmatchcase(os.fsdecode(name), kept) for kept in LANGUAGES_KEPT):
        return "another language"
    return _WHY.get(path)


USR = Rules(_why_emptied, _roots_owner, only_public=True)
PLAIN = Rules(lambda _path: None, _roots_owner, only_public=True)


def _drop_huge(usr: Node, left: LeftOut) -> None:
    for place in HUGE_PLACES:
        parent: Node | None = usr
        for part in place.split(b"/"):
            parent = parent.children.get(part) if parent else None
        for name, node in sorted(parent.children.items()) if parent else ():
            if not _is_shared(name) and node.kind == "dir" and tree_bytes(node) > HUGE_BYTES:
                left.add(os.path.join(b"/usr", place, name), TOO_LARGE)
                node.children = {}


def _is_shared(name: bytes) -> bool:
    return any(fnmatch.fnmatchcase(os.fsdecode(name), shared) for shared in SHARED)


def signs(found: HostSurvey) -> str:
    """A fingerprint of what can be looked at in milliseconds: the directories of the sources down to SIGN_DEPTH, and
    the databases of packages. Whoever installs, removes or replaces a program changes one of them; who writes into an
    old file, or puts one deep into a tree, does not."""
    files = root_filesystem(found, "", HOSTNAME)
    digest = hashlib.sha256(f"{VERSION} {files}".encode(errors="surrogateescape"))
    for source in [*(source for source, _ in _sources(files)), *PACKAGE_DATABASES]:
        place = os.fsencode(source)
        _add_sign(digest, place)
        for directory in _directories(place):
            _add_sign(digest, directory)
    return digest.hexdigest()


def _add_sign(digest: hashlib._Hash, place: bytes) -> None:
    try:
        found = os.stat(place, follow_symlinks=False)
    except OSError:
        return
    digest.update(b"%b\0%d %d\0" % (place, found.st_mtime_ns, found.st_ctime_ns))


def _directories(source: bytes) -> Iterator[bytes]:
    """Below the source, but not in what is emptied, and no files: their directory tells of them."""
    pending = [(source, b"", 0)]
    while pending:
        place, inside, depth = pending.pop()
        for name in _names_of_directories(place) if depth < SIGN_DEPTH else ():
            below = os.path.join(inside, name)
            yield os.path.join(place, name)
            if _why_emptied(below) is None:
                pending.append((os.path.join(place, name), below, depth + 1))


def _names_of_directories(place: bytes) -> list[bytes]:
    try:
        with os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
