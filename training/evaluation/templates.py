# SPDX-License-Identifier: Apache-2.0
"""HTML pages from the templates of this folder."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """The page of a template; texts among the values are escaped, `Markup` is not."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.3f}"
    return environment.get_template(template).render(**values)
