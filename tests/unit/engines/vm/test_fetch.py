"""Downloads from mirrors of every kind."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cloche.engines.vm import fetch
from cloche.engines.vm.fetch import Fetcher, NotThereError, StoppedError
from cloche.model.errors import UnavailableError
from tests.package_mirror import Mirror, head, served

CONTENT = bytes(range(256)) * 4000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Bare(Mirror):
    """Without packages, and so without a key."""

    def __init__(self) -> None:
        self.files = {"/file": CONTENT}
        self.asked, self.behave, self.released = [], {}, threading.Event()


@pytest.fixture
def mirror() -> Bare:
    return Bare()


@pytest.fixture
def address(mirror: Bare) -> Iterator[str]:
    with served(mirror) as found:
        yield found


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(threading.Event(), {}, wait=lambda seconds: False)


def get(fetcher: Fetcher, address: str, part: Path, size: int = len(CONTENT), sha256: str = HASH) -> list[int]:
    counted: list[int] = []
    fetcher.file(f"{address}/file", part, size, sha256, counted.append)
    return counted


def once(behaviour):
    """Only for the first request."""
    left = [behaviour]
    return lambda request: bool(left) and left.pop()(request)


def cut(length: int):
    def behaviour(request: BaseHTTPRequestHandler) -> bool:
        head(request, len(CONTENT))
        request.wfile.write(CONTENT[:length])
        request.close_connection = True
        return True

    return behaviour


def status(code: int, **headers: str):
    def behaviour(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.capitalize(), value)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return True

    return behaviour


def test_a_file_comes_whole_and_is_counted(fetcher, address, tmp_path) -> None:
    counted = get(fetcher, address, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert counted[0] == 0 and counted[-1] == len(CONTENT) and counted == sorted(counted)


def test_what_is_there_is_gone_on_with(fetcher, mirror, address, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:1000])
    assert get(fetcher, address, tmp_path / "part")[0] == 1000
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert mirror.asked == [("/file", "bytes=1000-")]


def test_what_is_complete_is_not_asked_for(fetcher, mirror, address, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT)
    get(fetcher, address, tmp_path / "part")
    assert mirror.asked == []


@pytest.mark.parametrize("part", [b"x" * 1000, CONTENT + b"more", bytes(len(CONTENT))], ids=["part", "long", "whole"])
def test_something_else_that_lay_there_costs_one_more_attempt(fetcher, address, tmp_path, part) -> None:
    (tmp_path / "part").write_bytes(part)
    get(fetcher, address, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_was(fetcher, mirror, address, tmp_path) -> None:
    mirror.behave["/file"] = once(cut(300_000))
    get(fetcher, address, tmp_path / "part")
    assert mirror.asked == [("/file", ""), ("/file", "bytes=300000-")]


def test_a_mirror_that_knows_no_ranges_starts_anew(fetcher, mirror, address, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:1000])

    def whole(request) -> bool:
        head(request, len(CONTENT))
        request.wfile.write(CONTENT)
        return True

    mirror.behave["/file"] = whole
    get(fetcher, address, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_mirror_that_gives_another_range_than_was_asked_for(fetcher, mirror, address, tmp_path) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:1000])

    def shifted(request) -> bool:
        head(request, len(CONTENT), 206, f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.wfile.write(CONTENT)
        return True

    mirror.behave["/file"] = shifted
    get(fetcher, address, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_wrong_content_is_refused_and_gone(fetcher, mirror, address, tmp_path) -> None:
    mirror.files["/file"] = bytes(len(CONTENT))
    with pytest.raises(UnavailableError, match="not the file that the mirror's signed index names"):
        get(fetcher, address, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_file_that_never_ends_is_cut_at_its_size(fetcher, mirror, address, tmp_path) -> None:
    sent = []

    def endless(request) -> bool:
        head(request, None)
        try:
            while not mirror.released.is_set():
                sent.append(request.wfile.write(CONTENT))
        except OSError:
            pass
        return True

    mirror.behave["/file"] = endless
    with pytest.raises(UnavailableError, match="larger"):
        get(fetcher, address, tmp_path / "part")
    assert (tmp_path / "part").stat().st_size <= len(CONTENT)
    with pytest.raises(UnavailableError, match="larger"):
        fetcher.small(f"{address}/file", 1000)


def test_a_file_that_is_short_is_tried_again_and_then_refused(fetcher, mirror, address, tmp_path) -> None:
    mirror.files["/file"] = CONTENT[:5000]
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        get(fetcher, address, tmp_path / "part")
    assert len(mirror.asked) == fetch.ATTEMPTS
    mirror.behave["/file"] = cut(5000)
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        fetcher.small(f"{address}/file", 1 << 30)


def test_a_mirror_that_is_busy_is_asked_again_with_longer_and_longer_pauses(mirror, address, tmp_path) -> None:
    waited: list[float] = []
    fetcher = Fetcher(threading.Event(), {}, wait=lambda seconds: bool(waited.append(seconds)))
    mirror.behave["/file"] = status(503)
    with pytest.raises(UnavailableError, match="503"):
        get(fetcher, address, tmp_path / "part")
    assert waited == [0.5, 1.0, 2.0, 4.0]
    assert len(mirror.asked) == fetch.ATTEMPTS


def test_what_is_not_there_is_not_asked_for_again(fetcher, mirror, address) -> None:
    with pytest.raises(NotThereError, match="404"):
        fetcher.small(f"{address}/nothing", 10)
    assert len(mirror.asked) == 1


def test_redirects_lead_to_the_web_only(fetcher, mirror, address) -> None:
    mirror.behave["/a"] = status(302, location="/file")
    assert fetcher.small(f"{address}/a", len(CONTENT)) == CONTENT
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//[", "gopher:x"):
        mirror.behave["/a"] = status(302, location=place)
        with pytest.raises(UnavailableError):
            fetcher.small(f"{address}/a", 1000)
    mirror.behave["/a"] = status(302, location="/a")
    with pytest.raises(UnavailableError):
        fetcher.small(f"{address}/a", 1000)


def test_https_never_leads_to_http() -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request("https://one.example/")
    with pytest.raises(urllib.error.HTTPError, match="may not lead"):
        fetch._Redirects().redirect_request(request, None, 302, "", {}, "http://one.example/")  # type: ignore[arg-type]


def test_other_schemes_are_not_opened(fetcher) -> None:
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/", "http:///x"):
        with pytest.raises(UnavailableError, match="no http or https"):
            fetcher.small(url, 10)


def test_a_mirror_that_says_nothing_is_given_up(mirror, address, tmp_path) -> None:
    def silent(request) -> bool:
        mirror.released.wait(30)
        return True

    mirror.behave["/file"] = silent
    fetcher = Fetcher(threading.Event(), {}, wait=lambda seconds: False, silence_seconds=0.05)
    with pytest.raises(UnavailableError, match="timed out"):
        get(fetcher, address, tmp_path / "part")


def test_a_mirror_that_trickles_is_given_up(mirror, address, tmp_path) -> None:
    ticks = iter(range(0, 10_000_000, 40))

    def trickle(request) -> bool:
        head(request, len(CONTENT))
        for at in range(40):
            request.wfile.write(CONTENT[at : at + 1])
            request.wfile.flush()
        mirror.released.wait(30)
        return True

    mirror.behave["/file"] = trickle
    fetcher = Fetcher(threading.Event(), {}, clock=lambda: float(next(ticks)), wait=lambda seconds: False,
                      silence_seconds=0.5)  # fmt: skip
    with pytest.raises(UnavailableError, match=r"gives less|timed out"):
        get(fetcher, address, tmp_path / "part")


def test_nobody_wants_it_any_more(mirror, address, tmp_path) -> None:
    stop = threading.Event()
    fetcher = Fetcher(stop, {})
    with pytest.raises(StoppedError):
        fetcher.file(f"{address}/file", tmp_path / "part", len(CONTENT), HASH, lambda done: stop.set())
    with pytest.raises(StoppedError):
        fetcher.small(f"{address}/file", 10)


def test_a_full_disk_is_not_the_mirrors_fault(fetcher, address) -> None:
    with pytest.raises(OSError, match="space"):
        get(fetcher, address, Path("/dev/full"), len(CONTENT))


def test_a_proxy_is_used_and_left_out_where_it_is_not_wanted(mirror, address) -> None:
    host = address.removeprefix("http://")
    mirror.files["http://mirror.example/file"] = b"by the proxy"
    through = Fetcher(threading.Event(), {"http": address})
    assert through.small("http://mirror.example/file", 100) == b"by the proxy"
    assert mirror.asked == [("http://mirror.example/file", "")]
    around = Fetcher(threading.Event(), {"http": "http://127.0.0.1:1", "no": "localhost, 127.0.0.1"})
    assert around.small(f"http://{host}/file", len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("host", "names", "without"),
    [("a.example", "example", True), ("a.example:80", ".example", True), ("aexample", "example", False),
     ("x", "*", True),
     ("x:80", "x:80", True), ("x", "", False), ("x", " , ", False)],
)  # fmt: skip
def test_which_hosts_need_no_proxy(host, names, without) -> None:
    assert fetch.needs_none(host, names) is without


def test_a_password_in_an_address_is_not_told(fetcher) -> None:
    with pytest.raises(UnavailableError) as caught:
        fetcher.small("ftp://me:secret@127.0.0.1/", 10)
    assert "secret" not in str(caught.value)
