"""The plotly.js bundle that every page carries."""

from __future__ import annotations

from plotly.offline import get_plotlyjs_version

from reports.rendering import BUNDLE


def test_the_bundle_is_of_the_release_that_the_python_package_writes_for() -> None:
    version = get_plotlyjs_version()
    assert BUNDLE.name == f"plotly-basic-{version}.min.js"
    assert f"plotly.js (basic - minified) v{version}" in BUNDLE.read_text(encoding="utf-8")[:200]


def test_the_bundle_lies_beside_its_licence() -> None:
    licence = BUNDLE.with_name("LICENSE-plotly.js").read_text(encoding="utf-8")
    assert "MIT" in licence
    assert "Plotly" in licence


def test_the_bundle_can_stand_inside_a_script_element() -> None:
    text = BUNDLE.read_text(encoding="utf-8")
    assert "</script" not in text.lower()
    assert "<!--" not in text
    assert "\r" not in text  # a parser would make another line end of it, and the hash would differ
