"""Charts and tables of the real matplotlib and pandas, which are installed with the tools of development."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche import Sandbox

PNG = b"\x89PNG\r\n\x1a\n"
LIBRARIES = "/opt/libraries"


@pytest.fixture(scope="module")
def drawing(real_home: Path) -> Iterator[Sandbox]:
    """A sandbox whose code finds this environment's libraries."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None
    libraries = Path(found.origin).parents[1]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with Sandbox.create(
        mounts=[f"{libraries}:{LIBRARIES}:ro"], env={"PYTHONPATH": LIBRARIES, "MPLCONFIGDIR": "/tmp/mpl"}, memory="1g"
    ) as sandbox:
        inside = sandbox.run_code("import sys; f'{sys.version_info.major}.{sys.version_info.minor}'").text
        if inside != repr(version):
            pytest.skip(f"python3 inside is {inside}, and the libraries are for {version}")
        yield sandbox


@pytest.mark.slow
def test_a_chart_needs_nothing_but_plotting(drawing):
    done = drawing.run_code("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nNone").raise_for_error()
    assert [found.png[:8] for found in done.results] == [PNG]
    assert done.stderr == ""


def test_each_show_is_a_chart_in_its_place(drawing):
    code = "for n in (1, 2):\n    plt.bar([1, 2], [n, n])\n    plt.show()\n    print('after', n)"
    kinds = [type(event).__name__ for event in drawing.stream_code(code)]
    told = [kind for kind in kinds if kind in ("CodeResult", "CodeOutput")]
    assert told == ["CodeResult", "CodeOutput", "CodeResult", "CodeOutput"]


def test_a_figure_as_the_last_value_is_shown_once(drawing):
    done = drawing.run_code("figure, axes = plt.subplots()\naxes.plot([1, 2])\nfigure").raise_for_error()
    pictures = [found for found in done.results if found.png]
    assert len(pictures) == 1 and pictures[0].kind == "value"
    assert drawing.run_code("plt.get_fignums()").text == "[]"


@pytest.mark.slow
def test_a_table_is_html_and_text(drawing):
    done = drawing.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['<x>', 'y']})").raise_for_error()
    (table,) = done.results
    assert "<table" in table.html and "&lt;x&gt;" in table.html
    assert "a" in table.text and "<x>" in table.text
