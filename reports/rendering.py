"""From a template to one self-contained HTML page that fetches nothing.

Text from outside (errors, names, options) reaches the page only through the template's escaping, or in JSON
whose angle brackets are escaped. Scripts run only if their hash stands in the page's content security policy.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["BUNDLE", "rendered_page"]

_HERE = Path(__file__).parent
BUNDLE = _HERE / "vendor" / "plotly-basic-4.1.1.min.js"


def rendered_page(template: str, **values: Any) -> str:
    """The page of a template of this folder, with style and scripts in it. Charts are figures of plotly."""
    bundle, draw = BUNDLE.read_text(encoding="utf-8"), (_HERE / "draw.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = _figure_json
    return environment.get_template(template).render(
        policy=_policy([bundle, draw]),
        style=_own(_HERE.joinpath("style.css").read_text(encoding="utf-8")),
        bundle=_own(bundle),
        draw=_own(draw),
        **values,
    )


def _policy(scripts: list[str]) -> str:
    """Nothing is fetched, only these scripts run. Style is inline because plotly sets it on its elements."""
    hashes = " ".join(
        f"'sha256-{b64encode(sha256(script.encode('utf-8')).digest()).decode('ascii')}'" for script in scripts
    )
    rules = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    return f"{rules}; base-uri 'none'; form-action 'none'"


def _own(text: str) -> Markup:
    """Text of this package, put into the page as it is."""
    return Markup(text)  # noqa: S704


def _figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the element it stands in."""
    # The engine is named: another one, if installed, would write other bytes.
    text = pio.to_json(figure, engine="json", validate=False)
    for sign in "<>&":  # plotly replaces some of them too, but does not promise it
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _own(text)
