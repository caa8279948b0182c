"""Every console and Python block of the documentation runs against a real node and prints what the page says.

In a console block a line that starts with `$ ` is a command and the lines below it are its output, in which `…` stands
for anything. A block below `<!-- no-test: reason -->` is only read. A page's blocks run in order in one data directory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import private_home

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
FENCE = re.compile(
    r"^(?:<!-- no-test: (?P<exempt>[^\n]+?) -->\n)?```(?P<language>console|python)\n(?P<body>.*?)^```$", re.M | re.S
)
LINK = re.compile(r"\[[^\]]*\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\((?!\w+:)([^)#\s]*)#([^)]+)\)")


@dataclass
class Block:
    page: Path
    line: int
    language: str
    body: str
    exempt: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("body")), found["language"], found["body"], found["exempt"])
        for found in FENCE.finditer(text)
    ]


def commands_of(body: str) -> list[tuple[str, str]]:
    """(command, expected output) pairs; a command goes on while its lines end in a backslash."""
    pairs: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
        elif pairs and pairs[-1][0].endswith("\\"):
            pairs[-1] = (f"{pairs[-1][0]}\n{line}", "")
        else:
            assert pairs, f"a console block must begin with `$ `, not {line!r}"
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}{line}\n")
    return pairs


def matches(expected: str, actual: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, actual.strip(), re.S) is not None


#: generated pages show signatures, which are checked where they are generated
GENERATED = ROOT / "docs" / "reference"
RUNNABLE = [page for page in PAGES if page.parent != GENERATED and any(not block.exempt for block in blocks_of(page))]


@pytest.fixture
def environment():
    """A data directory of its own, and a PATH that finds this Cloche first."""
    with private_home() as home:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        variables = {name: value for name, value in os.environ.items() if not name.startswith("CLOCHE_")}
        yield variables | {"CLOCHE_HOME": str(home), "PATH": path, "NO_COLOR": "1", "COLUMNS": "120"}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_the_page_shows_is_what_happens(page, environment, tmp_path):
    work = ROOT if page.name in ("README.md", "CONTRIBUTING.md") else tmp_path
    for block in blocks_of(page):
        if not block.exempt:
            run_block(block, environment, work)


def run_block(block: Block, environment: dict[str, str], work: Path) -> None:
    if block.language == "python":
        run(block, [sys.executable, "-c", block.body], environment, work)
        return
    for command, expected in commands_of(block.body):
        output = run(block, ["bash", "-c", command], environment, work)
        assert matches(expected, output), f"{block}: {command}\nexpected:\n{expected}\ngot:\n{output}"


def run(block: Block, argv: list[str], environment: dict[str, str], work: Path) -> str:
    done = subprocess.run(
        argv, cwd=work, env=environment, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{block}: {argv[-1]}\nstatus {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    missing = [target for target in LINK.findall(without_blocks(page)) if not (page.parent / target).exists()]
    assert not missing


def sections_of(page: Path) -> set[str]:
    """The names by which links find its headings: words in lower case with hyphens, and nothing else."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_sections_that_exist(page):
    linked = [(page.parent / target if target else page, name) for target, name in ANCHOR.findall(without_blocks(page))]
    assert not [(to.name, name) for to, name in linked if to.suffix == ".md" and name not in sections_of(to)]


def test_the_readme_names_its_two_commands():
    shown = "\n".join(block.body for block in blocks_of(ROOT / "README.md"))
    assert "$ python3 dev.py demo" in shown
    assert "$ python3 dev.py test" in shown


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("42\n", "42\n", True),
        ("…", "anything\nat all", True),
        ("a … c", "a b c", True),
        ("42", "43", False),
        ("", "x", False),
    ],
)
def test_an_ellipsis_stands_for_anything(expected, actual, same):
    assert matches(expected, actual) is same
