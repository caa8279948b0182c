"""The newest kernel package of a distribution's mirrors, trusted from its signature down to its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cloche.engines.vm import apt_index, decompress, signatures
from cloche.engines.vm.apt_index import File, Package, Release
from cloche.engines.vm.apt_sources import COMPONENT, Source
from cloche.engines.vm.damaged import DamagedError
from cloche.engines.vm.fetch import OTHER_MIRROR, Fetcher, NotThereError
from cloche.engines.vm.signatures import Trust
from cloche.model.errors import UnavailableError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAX_RELEASE_BYTES = 8 << 20
MAX_INDEX_BYTES, MAX_INDEX_UNPACKED_BYTES = 128 << 20, 1 << 30
MAX_PACKAGE_BYTES = 512 << 20
_ENDINGS = (".xz", ".zst", ".gz")


class Kernel(NamedTuple):
    """A package and the mirror that has it."""

    source: Source
    package: Package


class Told(NamedTuple):
    """What the search says while it goes on: `step` and a line, with bytes where there are any."""

    step: str
    summary: str
    done: int = 0
    total: int = 0


Tell = Callable[[Told], None]


class Search:
    """`place`: where downloads are kept between two attempts. `asked`: a suite was named, so that one counts too from
    which apt would install nothing by itself. Every method raises UnavailableError, StoppedError, OSError."""

    def __init__(
        self, fetcher: Fetcher, place: Path, architecture: str, trust: Callable[[Source], Trust], tell: Tell,
        *, asked: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._fetcher, self._place, self._trust, self._tell = fetcher, place, trust, tell
        self._asked, self._now = asked, now
        if architecture not in ARCHITECTURES:
            raise UnavailableError(f"there is no kernel for {architecture} machines", remedy="cloche doctor")
        self._architecture = ARCHITECTURES[architecture]
        self._meta = f"linux-image-cloud-{self._architecture}"
        versioned = rf"linux-image-[0-9][a-z0-9.+~-]*cloud-{self._architecture}"
        self._versioned = re.compile(versioned)
        self._either = re.compile(rf"{re.escape(self._meta)}|{versioned}".encode())

    def newest(self, sources: Sequence[Source]) -> Kernel:
        """Of all sources that give one; those that do not are passed over, and told of."""
        found: list[tuple[Package, Kernel]] = []
        refused: list[UnavailableError] = []
        for source in sources:
            try:
                found += self._offered(source)
            except UnavailableError as error:
                refused.append(error)
                self._tell(Told("sources", f"passed over: {error.message}"))
        if not found:
            raise self._nothing(sources, refused)
        return max(found, key=lambda each: apt_index.version_key(each[0].version))[1]

    def download(self, kernel: Kernel) -> Path:
        """The package, checked."""
        file = kernel.package.file
        part = self._place / f"{file.sha256}.deb.part"
        self._bounded(file, MAX_PACKAGE_BYTES)
        what = f"{kernel.package.name} {kernel.package.version}"
        self._fetch(f"{kernel.source.uri}/{file.path}", part, file, ("package", what))
        return part

    def _offered(self, source: Source) -> Iterator[tuple[Package, Kernel]]:
        """The package that always stands for the newest kernel, and the kernel that it means."""
        if source.architectures and self._architecture not in source.architectures:
            return
        release = self._release(source)
        if release.only_when_asked and not self._asked:
            return
        index = self._index(source, release)
        if index is None:
            return
        try:
            with open(index, "rb") as file:
                pieces = decompress.pieces(file, MAX_INDEX_UNPACKED_BYTES)
                packages = list(apt_index.packages(pieces, self._either))
        except DamagedError as error:
            raise UnavailableError(f"the index of {source.suite}: {error}", remedy=OTHER_MIRROR) from error
        for meta in (package for package in packages if package.name == self._meta):
            yield from ((meta, Kernel(source, meant)) for meant in self._meant(meta, packages))

    def _meant(self, meta: Package, packages: Sequence[Package]) -> list[Package]:
        named = apt_index.dependency(meta.depends, self._versioned)
        if named is None:
            return []
        name, version = named
        found = [each for each in packages if each.name == name and version in (None, each.version)]
        return [max(found, key=lambda each: apt_index.version_key(each.version))] if found else []

    def _release(self, source: Source) -> Release:
        self._tell(Told("sources", f"reading {source.suite}"))
        in_release = self._fetcher.small(f"{source.uri}/dists/{source.suite}/InRelease", MAX_RELEASE_BYTES)
        try:
            text = signatures.signed_text(in_release, self._trust(source))
            return apt_index.release(text, self._now(), check_valid_until=source.check_valid_until)
        except DamagedError as error:
            message = f"the mirror's InRelease of {source.suite} is not to be trusted: {error}"
            raise UnavailableError(message, remedy=OTHER_MIRROR) from error

    def _index(self, source: Source, release: Release) -> Path | None:
        """None: this suite has no packages for this machine."""
        directory = f"{COMPONENT}/binary-{self._architecture}"
        names = (f"{directory}/Packages{ending}" for ending in _ENDINGS)
        file = next((release.files[name] for name in names if name in release.files), None)
        if file is None:
            return None
        self._bounded(file, MAX_INDEX_BYTES)
        part = self._place / f"{file.sha256}.index.part"
        base, step = f"{source.uri}/dists/{source.suite}", ("index", f"packages of {source.suite}")
        try:
            path = f"{directory}/by-hash/SHA256/{file.sha256}" if release.by_hash else file.path
            self._fetch(f"{base}/{path}", part, file, step)
        except NotThereError:
            self._fetch(f"{base}/{file.path}", part, file, step)
        return part

    def _fetch(self, url: str, part: Path, file: File, step: tuple[str, str]) -> None:
        self._fetcher.file(
            url, part, file.size, file.sha256, lambda done: self._tell(Told(*step, done=done, total=file.size))
        )

    def _bounded(self, file: File, limit: int) -> None:
        if file.size > limit:
            raise UnavailableError(f"{file.path} is larger than it may be ({file.size} bytes)", remedy=OTHER_MIRROR)

    def _nothing(self, sources: Sequence[Source], refused: Sequence[UnavailableError]) -> UnavailableError:
        if refused:
            why = "; ".join(dict.fromkeys(error.message for error in refused))
            return UnavailableError(f"no kernel could be fetched: {why}", remedy=refused[0].remedy)
        if sources:
            where = ", ".join(dict.fromkeys(source.suite for source in sources))
            return UnavailableError(f"there is no {self._meta} in {where}", remedy=_DEBIAN)
        return UnavailableError("this machine has no package sources of Debian", remedy=_DEBIAN)


_DEBIAN = (
    "cloche setup vm --mirror URL --suite NAME for a mirror of Debian (with gpgv and debian-archive-keyring), "
    "or --kernel PATH --modules DIR"
)
