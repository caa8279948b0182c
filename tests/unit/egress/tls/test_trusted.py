from __future__ import annotations

import os
from pathlib import Path

from cloche.egress.tls.authority import Authority
from cloche.egress.tls.trusted import certificate_pem


def test_it_is_the_authoritys(tmp_path: Path) -> None:
    assert certificate_pem(tmp_path) is None
    made = Authority.open(tmp_path)
    assert certificate_pem(tmp_path) == made.pem


def test_what_others_may_read_is_looked_at_closely(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    file = tmp_path / "egress" / "authority.pem"
    file.chmod(0o644)
    assert certificate_pem(tmp_path) is None


def test_an_old_one_may_have_to_be_renewed(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    os.utime(tmp_path / "egress" / "authority.pem", (0, 0))
    assert certificate_pem(tmp_path) is None


def test_a_damaged_one_is_not_passed_on(tmp_path: Path) -> None:
    Authority.open(tmp_path)
    (tmp_path / "egress" / "authority.pem").write_bytes(b"\xff")
    assert certificate_pem(tmp_path) is None
