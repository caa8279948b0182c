"""`cloche setup vm`: a kernel and an initramfs, from nothing or from wherever the last attempt got to.

The work is a thread of its own that may end at any moment: every file is complete or has another name, and the next
set-up goes on from what is there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from cloche.engines.base import Progress, Report
from cloche.engines.vm import (
    apt_sources,
    assets,
    kernel_keeping,
    kernel_sources,
    mirror,
    proxies,
    qemu_hint,
    setup_options,
    signatures,
)
from cloche.engines.vm.apt_sources import Source
from cloche.engines.vm.assets import Pointer
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.fetch import OTHER_MIRROR, PATIENCE_SECONDS, SILENCE_SECONDS, Fetcher, StoppedError
from cloche.engines.vm.kernel_sources import Unpacked
from cloche.engines.vm.signatures import Trust
from cloche.model.errors import ClocheError, EngineError, InvalidError, NoSpaceError, UnavailableError

DOWNLOADS, LOCK = "downloads", ".setup.lock"
LOCK_SECONDS = 0.2
REPORT_SECONDS = 0.1


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that is set up; tests make another one. `root`: where its /etc and /usr are."""

    root: Path = Path("/")
    architecture: str = platform.machine()
    silence_seconds: float = SILENCE_SECONDS
    patience_seconds: float = PATIENCE_SECONDS
    reached: Callable[[str], None] = lambda point: None
    """Called between every two steps; fault tests die in it."""


async def setup(
    home: Path, guest_binary: Path, options: Mapping[str, str], report: Report, ground: Ground | None = None
) -> None:
    """See Engine.setup. `options`: `kernel` and `modules` (absolute paths of this machine), `mirror`, `suite`,
    `keyring`, `proxy_http`, `proxy_https`, `proxy_no`; `verify` and `update` are on when "1".

    Raises InvalidError, UnavailableError, NoSpaceError, EngineError; when it is cancelled the work ends at the next
    safe point, and what was fetched is kept. `report` is called in the loop's own thread."""
    setup_options.check(options)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    work = _Work(home, guest_binary, options, _in_loop(loop, report), ground or Ground())

    def run() -> None:
        error = _outcome(work)
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(_tell, done, error)

    threading.Thread(target=run, daemon=True, name="cloche-setup-vm").start()
    try:
        await done
    finally:
        work.stop.set()


class _Work:
    def __init__(
        self, home: Path, guest_binary: Path, options: Mapping[str, str], report: Report, ground: Ground
    ) -> None:
        self.stop = threading.Event()
        self._home, self._guest, self._options, self._ground = home, guest_binary, options, ground
        self._place = home / assets.DIRECTORY
        self._report, self._reported = report, 0.0

    def run(self) -> None:
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            kernel_keeping.tidy(self._home)
            pointer = self._kernel()
            self._reached("kernel_there")
            with assets.pointing(self._home):
                made = assets.with_guest(self._home, pointer, self._guest)
            self._reached("pointed")
            self._say("initramfs", f"for Linux {made.release}, with the guest of this version")
            shutil.rmtree(self._place / DOWNLOADS, ignore_errors=True)
        for missing in qemu_hint.missing(self._ground.root, self._ground.architecture):
            self._say("qemu", missing)

    def _kernel(self) -> Pointer:
        if "kernel" in self._options:
            return self._own_kernel()
        pointer = assets.read_pointer(self._home)
        kept = self._kept(pointer) if pointer else None
        if kept is None or self._lacks(kept) or any(name in self._options for name in setup_options.SELECTING):
            return self._fetched(kept)
        self._say("kernel", f"Linux {kept.release} is here already")
        return kept

    def _kept(self, pointer: Pointer) -> Pointer | None:
        """The pointer, if its kernel is as it was; read whole when that is asked for or it looks different."""
        whole = assets.kernel_as_stamped(self._home, pointer)
        if whole and not self._flag("verify"):
            return pointer
        self._say("verify", f"reading Linux {pointer.release}")
        wrong = assets.verify(self._home)
        for line in wrong:
            self._say("verify", line)
        if not wrong:
            self._say("verify", "every file is as it was made")
        return assets.restamped(self._home, pointer)

    def _own_kernel(self) -> Pointer:
        path = self._options["kernel"]
        self._say("unpack", path)
        unpacked = kernel_sources.from_files(path, self._options.get("modules"), self._ground.architecture)
        source = assets.Source(kind="file", path=path, sha256=assets.sha256(unpacked.kernel))
        return self._keep(unpacked, source)

    def _fetched(self, kept: Pointer | None) -> Pointer:
        downloads = self._place / DOWNLOADS
        downloads.mkdir(mode=0o700, exist_ok=True)
        fetcher = Fetcher(self.stop, proxies.chosen(self._options), silence_seconds=self._ground.silence_seconds,
                          patience_seconds=self._ground.patience_seconds)  # fmt: skip
        search = mirror.Search(fetcher, downloads, self._ground.architecture, self._trust, self._tell,
                               asked="suite" in self._options)  # fmt: skip
        found = search.newest(self._sources())
        self._reached("found")
        package = found.package
        if kept is not None and not self._lacks(kept) and self._is_from(kept, package.file.sha256):
            self._say("kernel", f"Linux {kept.release} is the newest, and here already")
            return kept
        path = search.download(found)
        self._reached("downloaded")
        self._say("unpack", f"{package.name} {package.version}")
        try:
            unpacked = kernel_sources.from_package(path, self._ground.architecture)
        except DamagedError as error:
            message = f"{package.name} {package.version} has no kernel that can be booted: {error}"
            raise UnavailableError(message, remedy=OTHER_MIRROR) from error
        self._reached("unpacked")
        source = assets.Source(kind="package", package=package.name, version=package.version,
                               sha256=package.file.sha256)  # fmt: skip
        return self._keep(unpacked, source)

    def _lacks(self, kept: Pointer) -> bool:
        """It is of a package out of which an earlier version took fewer modules."""
        description = assets.read_description(assets.kernel_directory(self._home, kept.kernel_id), kept.kernel_id)
        if description is None or description.source.kind != "package":
            return False
        return description.redirects is None or description.refusals is None

    def _is_from(self, kept: Pointer, sha256: str) -> bool:
        description = assets.read_description(assets.kernel_directory(self._home, kept.kernel_id), kept.kernel_id)
        return description is not None and description.source.sha256 == sha256

    def _keep(self, unpacked: Unpacked, source: assets.Source) -> Pointer:
        pointer = kernel_keeping.keep(self._home, unpacked, source, self._ground.architecture, self._reached)
        self._say("kernel", f"Linux {pointer.release}")
        return pointer

    def _sources(self) -> list[Source]:
        said_mirror, suite = self._options.get("mirror"), self._options.get("suite")
        if said_mirror:
            return [Source(said_mirror.rstrip("/"), suite or self._own_suite())]
        found = apt_sources.read(self._ground.root)
        if not suite:
            return found
        exact = [source for source in found if source.suite == suite]
        return exact or list(dict.fromkeys(source._replace(suite=suite) for source in found))

    def _own_suite(self) -> str:
        release = qemu_hint.os_release(self._ground.root)
        if release.get("ID") != "debian" or not release.get("VERSION_CODENAME"):
            raise InvalidError("which suite of that mirror?", field="options.suite", remedy="add --suite NAME")
        return release["VERSION_CODENAME"]

    def _trust(self, source: Source) -> Trust:
        if keyring := self._options.get("keyring"):
            return Trust(keyrings=(Path(keyring),))
        return signatures.trust(source.signed_by, self._ground.root)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One set-up of a data directory at a time; the others wait and then find everything there."""
        with open(self._place / LOCK, "ab") as lock:
            told = False
            while not _locked(lock.fileno()):
                if not told:
                    self._say("wait", "another set-up is going on")
                told = True
                if self.stop.wait(LOCK_SECONDS):
                    raise StoppedError
            yield

    def _flag(self, name: str) -> bool:
        return self._options.get(name) == "1"

    def _reached(self, point: str) -> None:
        self._ground.reached(point)
        if self.stop.is_set():
            raise StoppedError

    def _say(self, step: str, summary: str) -> None:
        self._report(Progress(step=step, summary=summary))

    def _tell(self, told: mirror.Told) -> None:
        """Of a download not every piece, but its end."""
        now = time.monotonic()
        if not told.total or told.done in (0, told.total) or now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._report(Progress(step=told.step, summary=told.summary, done=told.done, total=told.total,
                                  unit="bytes" if told.total else "steps"))  # fmt: skip


def _outcome(work: _Work) -> BaseException | None:
    try:
        work.run()
    except StoppedError:
        return asyncio.CancelledError()
    except OSError as error:
        return _explained(error)
    except ClocheError as error:
        return error
    except Exception as error:
        return EngineError(f"the set-up failed: {type(error).__name__}: {error}", stage="setup")
    return None


def _explained(error: OSError) -> ClocheError:
    said = f"{error.filename or 'the data directory'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no room for the kernel: {said}", remedy="free 300 MiB, or move CLOCHE_HOME")
    return EngineError(f"the set-up failed: {said}", stage="setup")


def _tell(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        done.cancel()
    else:
        done.set_exception(error)


def _in_loop(loop: asyncio.AbstractEventLoop, report: Report) -> Report:
    def call(progress: Progress) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(report, progress)

    return call


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
