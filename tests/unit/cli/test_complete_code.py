"""Whether what was typed is whole."""

from __future__ import annotations

import shutil

import pytest

from cloche.cli.complete_code import is_whole

WHOLE = {
    "python": [
        "",
        "x",
        "x = 1\n",
        "if x:\n    y\n",
        "def (:",
        "a b",
        "'''a\nb'''",
        "for i in range(3):\n  print(i)\n",
        "\0",
    ],
    "javascript": ["", "f(1)", "let a = [1,\n2]", "'('", "`a\n${b}`", "// (", "/* ( */ 1", "a)", '"\\""', "{}"],
    "bash": ["", "ls", "for i in 1; do\necho\ndone", "echo 'a'", "cat <<E\nx\nE", "fi", "echo ("],
}
HALF = {
    "python": ["if x:", "def f():\n    return 1", "(", "'''a", "x = [1,", "a \\"],
    "javascript": ["f(", "let a = [1,", "`a", "/* a", "function f() {", "({"],
    "bash": ["for i in 1; do", "echo 'a", "if true; then", "cat <<E\nx", "f() {", "echo a \\"],
}


@pytest.mark.parametrize("language", WHOLE)
def test_whole_and_half(language: str) -> None:
    if language == "bash" and shutil.which("bash") is None:
        pytest.skip("bash judges bash, and there is none")
    assert [code for code in WHOLE[language] if not is_whole(language, code)] == []
    assert [code for code in HALF[language] if is_whole(language, code)] == []


def test_nothing_that_is_typed_runs_while_it_is_judged(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for language, code in (("bash", "touch ran"), ("bash", "$(touch ran)"), ("python", "open('ran', 'w')")):
        assert is_whole(language, code)
    assert not list(tmp_path.iterdir())


def test_a_language_nobody_knows_is_whole() -> None:
    assert is_whole("cobol", "(")
