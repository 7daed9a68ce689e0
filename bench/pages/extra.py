"""What pages need beside the core: charts (Altair, Vega-Lite) and tables (DataTables). Their scripts come from the installed
packages when a page is written; none is committed, and a page asks no server for anything."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from importlib.metadata import distribution
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
    """Vega, Vega-Lite as Altair writes it, and vega-embed: ``vegaEmbed`` for a page that is offline.

    Raises:
        RunError: the two packages are of versions that do not go together.
    """
    version = ".".join(str(import_module("altair").SCHEMA_VERSION).removeprefix("v").split(".")[:2])  # v6.4.1 is 6.4
    vl_convert = import_module("vl_convert")
    if version not in vl_convert.get_vegalite_versions():
        raise RunError(
            f"altair writes Vega-Lite {version}, which vl-convert-python does not bring: pip install -U both"
        )
    return str(vl_convert.javascript_bundle(vl_version=version))


@lru_cache
def table_script() -> str:
    """DataTables with its column choice and file buttons: ``DataTable``. The package has it as a module, which browsers do not
    load from a disk, so its one export becomes a global name.

    Raises:
        RunError: the package's file is not built as expected.
    """
    text = (files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    exports = list(_EXPORTS.finditer(text))
    if len(exports) != 1:
        raise RunError("itables' table script is not built as expected; install itables 2.9")
    (export,) = exports
    code = f"{text[: export.start()]}window.DataTable={export[1]};{text[export.end() :]}"
    return f'(function(){{"use strict";{code}\n}})();\n'


def licences() -> str:
    """Whose scripts these are, and the licences that came with the packages."""
    parts = [
        "charts.js: Vega, Vega-Lite and vega-embed (BSD 3-Clause, University of Washington Interactive Data Lab, "
        "https://vega.github.io), as bundled by vl-convert-python.",
        "tables.js, tables.css: DataTables and its extensions (MIT, SpryMedia Ltd, https://datatables.net), jQuery (MIT, OpenJS "
        "Foundation) and JSZip (MIT, Stuart Knightley), as bundled by itables; their notices stand at the end of tables.js.",
    ]
    for package in ("vl-convert-python", "itables"):
        installed = distribution(package)
        parts.append(f"{package} {installed.version}\n\n{(installed.read_text('licenses/LICENSE') or '').strip()}")
    return "\n\n".join(parts) + "\n"


@lru_cache
def table_styles() -> str:
    """The styles of :func:`table_script`'s tables, light and dark."""
    return (files("itables") / "html" / "dt_bundle.css").read_text(encoding="utf-8")
