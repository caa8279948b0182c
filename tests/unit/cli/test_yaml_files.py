"""What a hostile file on the command line can cost: an error, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.cli import policies, session, yaml_files
from cloche.model.errors import InvalidError

#: each line stands for nine, or two, of the line before
LISTS = "\n".join(["l0: &l0 [a]", *(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 20))])
MERGES = "\n".join(["m0: &m0 {a: 1, b: 2}", *(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 30))])
HOSTILE = {
    "aliases": LISTS,
    "merges": MERGES,
    "base 60": "1" + ":59" * 10_000,
    "base 60 with a fraction": "1" + ":59" * 200 + ".5",
    "digits": "9" * 5000,
    "deep": "[" * 10_000,
    "no number": '!!int ""',
    "no truth": "!!bool maybe",
    "no time": "!!timestamp never",
    "code": "!!python/object/apply:os.getpid []",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("read", [policies.of_file, session.load])
def test_is_refused_at_once(kind: str, read, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(HOSTILE[kind])
    with pytest.raises(InvalidError, match=f"{path} is no YAML"):
        read(str(path))


def test_what_contains_itself_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("rules: &a [*a]\n")
    with pytest.raises(InvalidError):
        policies.of_file(str(path))


def test_many_rules_of_the_same_hosts_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    hosts = ",".join(["a.example"] * 10_000)
    path.write_text("rules:\n- &r {hosts: [" + hosts + "]}\n" + "- *r\n" * yaml_files.MAX_ALIASES)
    with pytest.raises(InvalidError, match="hosts, ranges and paths in all"):
        policies.of_file(str(path))


def test_anchors_and_merges_as_people_write_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("rules:\n- &api {hosts: [a.example], ports: ['443']}\n- {<<: *api, hosts: [b.example]}\n")
    found = policies.of_file(str(path))
    assert [rule.hosts for rule in found.rules] == [["a.example"], ["b.example"]]  # type: ignore[union-attr]
    assert found.rules[1].ports == ["443"]  # type: ignore[union-attr]
