"""The default image `host`: the machine's own /usr read-only, with a private /etc, home and /tmp.

Pure but for `survey`, which looks at the machine once. Nothing of the host is visible that is not named here."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cloche.model.errors import InvalidError

USER_ID = 1000
USER_HOME = "/home/user"
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: links of a merged-/usr system, or real directories of an older one
TOP_LEVEL = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

#: parts of the host's /etc that programs in /usr need to start and that hold no secret. Each is shown only when
#: everybody on the host may read it.
ETC_SHOWN = (
    "alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/certs", "ssl/openssl.cnf", "ca-certificates.conf",
    "pki/tls", "pki/ca-trust", "crypto-policies", "localtime", "timezone", "services", "protocols", "rpc", "mime.types",
    "magic", "magic.mime", "gai.conf", "host.conf", "os-release", "lsb-release", "debian_version", "inputrc", "fonts",
    "python3", "python3.11", "python3.12", "python3.13", "perl", "java-17-openjdk", "locale.alias", "terminfo", "vim",
    "nanorc", "ImageMagick-6", "R", "ghostscript",
)  # fmt: skip

#: the machine's authorities stand beside the place where programs look, which is a link: the guest lets it lead to a
#: directory of its own when there is one more to trust (guest/internal/door/certificates.go)
_AUTHORITIES, _AUTHORITIES_SHOWN = "ssl/certs", "/etc/ssl/certs.machine"

#: what an image that a virtual machine's guest boots gets, too (guest/internal/vmboot/resolver.go)
RESOLVER = "# names are asked of the sandbox's own guest\nnameserver 127.0.0.1\noptions timeout:5 attempts:1\n"

#: the system that pip would protect from itself is read-only here, and of nobody but the sandbox
_PIP = "[global]\nbreak-system-packages = true\n"

_PROMPT = "[ -z \"$PS1\" ] || PS1='\\u@\\h:\\w\\$ '\n"

_DIRECTORIES = {
    **dict.fromkeys(("/etc", "/etc/ssl", "/home", USER_HOME, "/var", "/run", "/dev", "/usr", "/.cloche"), 0o755),
    **dict.fromkeys(("/var/cache", "/var/lib", "/var/log", "/opt", "/srv", "/mnt", "/media"), 0o755),
    **dict.fromkeys(("/tmp", "/var/tmp", "/run/lock"), 0o1777),
    **dict.fromkeys(("/proc", "/sys"), 0o555),
    # others may pass, or a host path below it could not be reached
    "/root": 0o711,
}


@dataclass(frozen=True)
class Entry:
    """A directory, file or link of the root's lower layer. Ids are those inside."""

    kind: str
    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    content: str = ""
    target: str = ""


@dataclass(frozen=True)
class Bind:
    source: str
    target: str
    read_only: bool = True
    optional: bool = False


@dataclass(frozen=True)
class HostSurvey:
    """What was found on the machine: `top_links` name → target, `top_dirs` real ones, `etc_binds` and `etc_links`."""

    top_links: dict[str, str] = field(default_factory=dict)
    top_dirs: tuple[str, ...] = ()
    etc_binds: dict[str, str] = field(default_factory=dict)
    etc_links: dict[str, str] = field(default_factory=dict)
    interpreter_prefix: str | None = None


@dataclass(frozen=True)
class RootFilesystem:
    """`path` is the PATH that commands find their programs by."""

    entries: tuple[Entry, ...]
    binds: tuple[Bind, ...]
    path: str


def survey() -> HostSurvey:
    """Look at the machine. Never raises for what is missing."""
    links, dirs = {}, []
    for name in TOP_LEVEL:
        place = f"/{name}"
        if os.path.islink(place):
            links[name] = os.readlink(place)
        elif os.path.isdir(place):
            dirs.append(name)
    binds, etc_links = _survey_etc()
    prefix = interpreter_prefix(sys.base_prefix, os.path.expanduser("~"))
    return HostSurvey(links, tuple(dirs), binds, etc_links, prefix)


def _survey_etc() -> tuple[dict[str, str], dict[str, str]]:
    binds, links = {}, {}
    for name in ETC_SHOWN:
        place = os.path.join("/etc", name)
        real = os.path.realpath(place)
        if not os.path.exists(real) or not os.stat(real).st_mode & 0o004:
            continue
        if os.path.islink(place) and real.startswith("/usr/"):
            links[name] = real
        else:
            binds[name] = real
    return binds, links


def interpreter_prefix(prefix: str, home: str) -> str | None:
    """The running Python's own directory, if it lies outside /usr and showing it shows nothing else: it must hold that
    interpreter and must not be, or contain, a home directory or a system directory."""
    path = PurePosixPath(prefix)
    if path.is_relative_to("/usr") or len(path.parts) < 3:
        return None
    if PurePosixPath(home).is_relative_to(path) or str(path.parent) == "/home":
        return None
    holds_python = os.path.exists(path / "bin" / "python3") and os.path.isdir(path / "lib")
    return str(path) if holds_python else None


def root_filesystem(
    found: HostSurvey, sandbox_id: str, hostname: str, host_paths: tuple[str, ...] = ()
) -> RootFilesystem:
    """The root of one sandbox. `host_paths` are shown read-only at their own place. Raises InvalidError for a host path
    that would uncover what the image hides."""
    shown = [check_host_path(path) for path in host_paths]
    if found.interpreter_prefix and not any(_covers(path, found.interpreter_prefix) for path in shown):
        shown.append(found.interpreter_prefix)
    entries = [*_directories(), *_links(found), *_files(sandbox_id, hostname)]
    binds = [Bind("/usr", "/usr"), *(Bind(f"/{name}", f"/{name}") for name in found.top_dirs)]
    binds += [Bind(source, _shown_at(name), optional=True) for name, source in sorted(found.etc_binds.items())]
    binds += [
        Bind(path, path, optional=path == found.interpreter_prefix) for path in shown if not _covers("/usr", path)
    ]
    entries += [Entry("dir", f"/{name}") for name in found.top_dirs]
    return RootFilesystem(tuple(entries), tuple(binds), ":".join([BASE_PATH, *(f"{path}/bin" for path in shown)]))


def _shown_at(name: str) -> str:
    return _AUTHORITIES_SHOWN if name == _AUTHORITIES else f"/etc/{name}"


def check_host_path(path: str) -> str:
    """A normal form of the path, or InvalidError when it holds system state, other users' files or everything."""
    # normpath keeps two leading slashes, which mean nothing on Linux
    clean = "/" + os.path.normpath(path).lstrip("/")
    forbidden = ("/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/run", "/var", "/boot", "/tmp", "/.cloche")
    if clean in forbidden or any(
        _covers(root, clean) for root in ("/proc", "/sys", "/dev", "/boot", "/etc", "/.cloche")
    ):
        raise InvalidError(f"{path} cannot be shown to a sandbox: name one directory inside it", field="host_paths")
    return clean


def _covers(parent: str, child: str) -> bool:
    return PurePosixPath(child).is_relative_to(parent)


def _directories() -> list[Entry]:
    return [Entry("dir", path, mode, *_owner(path)) for path, mode in _DIRECTORIES.items()]


def _owner(path: str) -> tuple[int, int]:
    return (USER_ID, USER_ID) if path == USER_HOME else (0, 0)


def _links(found: HostSurvey) -> list[Entry]:
    links = {f"/{name}": target for name, target in found.top_links.items()}
    links |= {f"/etc/{name}": target for name, target in found.etc_links.items() if "/" not in name}
    if _AUTHORITIES in found.etc_binds:
        links[f"/etc/{_AUTHORITIES}"] = _AUTHORITIES_SHOWN
    links |= {"/var/run": "/run", "/var/lock": "/run/lock", "/etc/mtab": "/proc/self/mounts"}
    return [Entry("link", path, target=target) for path, target in sorted(links.items())]


def _files(sandbox_id: str, hostname: str) -> list[Entry]:
    texts = {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n"
        f"user:x:{USER_ID}:{USER_ID}:user:{USER_HOME}:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "/etc/group": f"root:x:0:\ntty:x:5:\nuser:x:{USER_ID}:\nnogroup:x:65534:\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t{hostname}\n",
        "/etc/hostname": f"{hostname}\n",
        "/etc/resolv.conf": RESOLVER,
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n"
        "protocols: files\nnetworks: files\n",
        "/etc/machine-id": f"{machine_id(sandbox_id)}\n",
        "/etc/shells": "/bin/sh\n/bin/bash\n",
        "/etc/profile": f"umask 022\n{_PROMPT}",
        "/etc/bash.bashrc": _PROMPT,
        "/etc/pip.conf": _PIP,
    }
    return [Entry("file", path, 0o644, content=content) for path, content in texts.items()]


def machine_id(sandbox_id: str) -> str:
    """Of /etc/machine-id: the same for a sandbox whenever it is asked, another for each."""
    import hashlib

    return hashlib.sha256(f"cloche machine-id {sandbox_id}".encode()).hexdigest()[:32]
