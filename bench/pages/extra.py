"""What pages need beside the core: charts (Altair, Vega-Lite) and tables (DataTables). Their scripts come from the installed
packages when a page is written; none is committed, and a page asks no server for anything."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from importlib.util import find_spec

from bench.core.errors import RunError, UsageError

NEEDED = ("jinja2", "altair", "vl_convert", "itables", "markdown_it")
"""Modules that ``pip install 'stpl-benchmark[site]'`` brings."""
_EXPORTS = re.compile(r"export\{[^}]*?\b([\w$]+) as default\b[^}]*\};")


def check_extra(command: str) -> None:
    """Refuse before any work what cannot be written.

    Raises:
        UsageError: a package is missing; says how to install it.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"`bench {command}` needs {missing[0]}: pip install 'stpl-benchmark[site]'")


@lru_cache
def chart_script() -> str:
    """Vega, Vega-Lite and vega-embed: ``vegaEmbed`` for a page that is offline."""
    vl_convert = import_module("vl_convert")
    version = "_".join(_schema_version().split(".")[:2])
    return str(vl_convert.javascript_bundle(vl_version=version))


def _schema_version() -> str:
    """Of Vega-Lite, as Altair writes charts: ``v6.1.0`` is ``v6.1``."""
    return str(import_module("altair").SCHEMA_VERSION)


@lru_cache
def table_script() -> str:
    """DataTables with its column choice and file buttons: ``DataTable``. The package has it as a module, which browsers do not
    load from a disk, so its one export becomes a global name.

    Raises:
        RunError: the package's file is not built as expected.
    """
    text = (files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    found = list(_EXPORTS.finditer(text))
    if len(found) != 1:
        raise RunError("itables' table script is not built as expected; install itables 2.9")
    (export,) = found
    code = f"{text[: export.start()]}window.DataTable={export[1]};{text[export.end() :]}"
    return f'(function(){{"use strict";{code}\n}})();\n'


@lru_cache
def table_styles() -> str:
    """The styles of :func:`table_script`'s tables, light and dark."""
    return (files("itables") / "html" / "dt_bundle.css").read_text(encoding="utf-8")
