"""``bench site``: the leaderboards as a static site, from the committed records and the generated pages.

Everything is made of the functions that make the markdown. No page asks anything of a server: scripts lie beside the pages, data
in them. Texts of records are data and escaped by the templates. The same records give the same bytes.

    index.html              boards, the recorded drives first; studies, analyses, methods
    <shift>.html            table, plots, classes, pairs;  <shift>-all.html: the markdown page
    <page>.html             studies, analyses, settings, flow
    methods/<method>.html   card, documentation, settings with origin, published numbers, runs, curves
    data/                   CSV, JSON and BibTeX
    assets/                 scripts and styles of the installed libraries, and ours
    figures/                pictures of the pages, as WebP; films as they are, those of `bench strip --films` too
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bench.analysis.strips import FRAMES, film_name
from bench.core.errors import BadFile, RunError, short
from bench.core.files import check_folder, disk_errors, locked, write_atomically
from bench.core.outputs import Output, apart
from bench.core.progress import Progress, quiet
from bench.core.registry import method_names, shift_names
from bench.data.reading import colour_picture
from bench.leaderboards import overview_page, page, settings_page
from bench.leaderboards.drive import by_frame
from bench.leaderboards.provenance import provenance
from bench.leaderboards.published import compared_with
from bench.leaderboards.standings import read_committed
from bench.runs.config import Shift, load_shift, method_class
from bench.runs.finished import frame_of
from bench.runs.records import Record
from bench.runs.sequences import Counts
from bench.shifts.protocol import Data

from . import board, charts, extra, methods
from .text import title_of, to_html

if TYPE_CHECKING:
    from jinja2 import Environment

Content = str | bytes
WEBP = {"quality": 82, "method": 4}
"""How pictures are written: a quarter of the PNG's size."""
FILMS = (".gif", ".mp4")
PICTURES = (
    ("Predictions", "panels.png"), ("Predictions", "predictions.png"),
    ("Film: consecutive frames", "strip.gif"), ("Film: consecutive frames", "film.gif"),
)  # fmt: skip
"""Caption and end of the file's name of a shift's pictures, as ``make figures`` and ``make figures-camera`` name them."""


@dataclass(frozen=True)
class Film:
    """A method's film, and what it can be laid beside.

    Attributes:
        frames: how many; each file has them one below the other.
        size: width and height of a frame in pixels.
        sides: title and file of everything that may be shown, left or right.
        start: titles of what is shown first, left and right.
    """

    title: str
    frames: int
    size: tuple[int, int]
    sides: list[tuple[str, str]]
    start: tuple[str, str]


@dataclass
class Site:
    """The files of a site by name, filled page by page.

    Attributes:
        root: folder with records, pages and figures.
        records: of every shift that has some.
        files: what is written.
        copied: figures and data that pages show or link to, by name in the site.
        sequences: of every shift, pixels per target sequence by run.
    """

    root: Path
    records: dict[str, list[Record]]
    files: dict[str, Content] = field(default_factory=dict)
    copied: dict[str, Path] = field(default_factory=dict)
    sequences: Mapping[str, Mapping[str, Mapping[str, Counts]]] = field(default_factory=dict)

    @cached_property
    def shifts(self) -> list[Shift]:
        """With a page: recorded drives with records first, then rendered worlds, the atlas, and those without records."""
        names = [name for name in shift_names() if (self.root / f"{name}.md").is_file()]
        shifts = [load_shift(name) for name in names]
        return sorted(shifts, key=lambda shift: (shift.name not in self.records, overview_page.place(shift)))

    @cached_property
    def documents(self) -> dict[str, str]:
        """Markdown of every page that is not a board's, by name."""
        boards = {shift.name for shift in self.shifts}
        texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(self.root.glob("*.md"))}
        return {name: text for name, text in texts.items() if name not in boards}

    @cached_property
    def environment(self) -> Environment:
        """Templates that escape whatever is put into them."""
        return templates()

    def add(self, name: str, template: str, **values: Any) -> None:
        """Render a page."""
        up = "../" * (len(PurePosixPath(name).parts) - 1)
        self.files[name] = self.environment.get_template(template).render(up=up, site=self, **values)

    def titles(self) -> list[tuple[str, str, str]]:
        """Name, kind and title of every document, the overview and the studies first."""
        documents = [(name, *_kind_and_title(text, name)) for name, text in self.documents.items()]
        return sorted(documents, key=lambda d: (d[1] != "Overview", d[1] != "Study", d[1], d[0]))

    def place(self, address: str) -> str | None:
        """The site's address for an address in a markdown page of the root; None where nothing is to be linked."""
        if "://" in address or address.startswith("#"):
            return address
        path = PurePosixPath(address)
        if path.suffix == ".md" and path.stem in {shift.name for shift in self.shifts} | set(self.documents):
            return f"{path.stem}.html"
        if path.parts[:1] == ("records",) and path.name in self.records:
            return f"data/{path.name}-runs.csv"
        return self.figure(address)

    def pictures(self, shift: Shift) -> list[tuple[str, str]]:
        """Captions and names of a shift's pictures."""
        named = [(caption, self.figure(f"figures/{shift.name}-{file}")) for caption, file in PICTURES]
        return [(caption, name) for caption, name in named if name is not None]

    def film(self, shift: Shift, method: str) -> Film | None:
        """The film of a method beside those of the others; None where there is none."""
        paths = {name: self.root / "figures" / film_name(shift.name, name) for name in (FRAMES, *method_names())}
        present = {name: file for name, file in paths.items() if file.is_file()}
        if method not in present:
            return None
        target = shift.data if isinstance(shift.data, Data) else shift.data.target
        titles = {FRAMES: "frames"} | {name: method_class(name).card.title for name in present if name != FRAMES}
        self.copied |= {f"figures/{file.name}": file for file in present.values()}  # label maps lose by compression
        size = image_size(present[method])
        opposite = [name for name in ("source_only", FRAMES, *present) if name in present and name != method]
        sides = [(titles[name], f"figures/{file.name}") for name, file in present.items()]
        start = titles[opposite[0] if opposite else method], titles[method]
        return Film(shift.title, size[1] // target.height, (target.width, target.height), sides, start)

    def figure(self, address: str) -> str | None:
        """The name of a picture or file of the root in the site; it is copied. None where there is none."""
        file = self.root / address
        if ".." in PurePosixPath(address).parts or not file.is_file():
            return None
        name = str(PurePosixPath(address).with_suffix(".webp")) if file.suffix == ".png" else address
        self.copied[name] = file
        return name


def _kind_and_title(text: str, name: str) -> tuple[str, str]:
    title = title_of(text) or name
    kind, colon, rest = title.partition(": ")
    return (kind, rest) if colon else ("Page", title if text.startswith("#") else name.capitalize())


def templates() -> Environment:
    """The templates of this room; what is put into them is escaped, undefined names are errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("bench.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own(name: str) -> str:
    """A script or style of ours."""
    return (files("bench.pages") / "templates" / name).read_text(encoding="utf-8")


# Pages ----------------------------------------------------------------------------------------------------------------


def _board(site: Site, shift: Shift) -> board.Board:
    """Write a shift's page and its downloads; returns the board that the page shows."""
    from markupsafe import Markup

    text = (site.root / f"{shift.name}.md").read_text(encoding="utf-8")
    site.add(
        f"{shift.name}-all.html", "document.html", title=shift.title, kind="Leaderboard", back=f"{shift.name}.html",
        body=Markup(to_html(text, lambda a: f"{shift.name}-all.html" if a == f"{shift.name}.md" else site.place(a))),
    )  # fmt: skip
    records, real = site.records.get(shift.name, []), compared_with(shift.name)
    shift_board = board.board_of(records, real, site.sequences.get(shift.name))
    classes = [name for name in shift.score_classes if name not in shift.unscored]
    site.add(
        f"{shift.name}.html", "board.html", shift=shift, real=real, columns=board.COLUMNS, by_frame=by_frame(shift),
        specs=_plots(shift, real, shift_board, classes),
        rows=board.table_rows(shift_board.lines) if shift_board.lines else [],
        scale=board.scale_of(shift_board.lines) if shift_board.lines else None,
        alike={setting: board.alike(family, shift_board.titles) for setting, family in shift_board.families.items()},
        sees=page.SEES, pictures=site.pictures(shift),
        studies=[document for document in site.titles() if document[0].startswith(f"{shift.name}-")],
        provenance=Markup(to_html(provenance(shift, records), site.place)) if records else "",
    )  # fmt: skip
    if records:
        site.files[f"data/{shift.name}-runs.csv"] = frame_of(records).to_csv(index=False)
    if shift_board.lines:
        download = {"shift": shift.name, "shift_hash": shift.hash, "methods": board.as_json(shift_board.lines)}
        site.files[f"data/{shift.name}.json"] = _json(download)
        site.files[f"data/{shift.name}.csv"] = _csv(board.csv_rows(shift_board.lines, classes))
    return shift_board


def _plots(shift: Shift, real: str, shift_board: board.Board, classes: Sequence[str]) -> dict[str, charts.Spec]:
    """The plots of a board by name, as far as there are numbers."""
    points, published = board.score_points(shift_board.lines), board.published_points(real)
    specs: dict[str, charts.Spec] = {}
    if points:
        specs["scores"] = charts.scores(points)
        specs["measured"] = charts.against_restriction(points, f"Measured here on {shift.title}: mIoU by setting")
        specs["classes"] = charts.class_map(board.class_points(shift_board.groups, classes), classes)
    if any(point["cpu"] is not None for point in points):
        specs["cost"] = charts.against_cost(points)
    if published:
        specs["published"] = charts.against_restriction(published, f"Published on {real}: mIoU by setting")
    for setting, family in shift_board.families.items():
        names = [shift_board.titles[name] for name in family.names]
        specs[f"pairs-{setting}"] = charts.pair_matrix(board.pair_points(family, shift_board.titles), names, setting)
    return specs


def _method(site: Site, name: str, shifts: Sequence[Shift]) -> None:
    """A method's page."""
    from markupsafe import Markup

    records = [
        record for shift_records in site.records.values() for record in shift_records if record.config.method == name
    ]
    points = methods.curve_points(records)
    specs = {
        f"{value}-{shift}": charts.curves([p for p in points if p["shift"] == shift], value, title)
        for shift in dict.fromkeys(p["shift"] for p in points)
        for value, title in (("miou", "mIoU, %"), ("target_score", "target-only score (no labels)"))
    }
    confusions = ((shift.name, site.figure(f"figures/{shift.name}-confusion-{name}.png")) for shift in site.shifts)
    heads, settings = methods.settings_table(name, shifts)
    site.add(
        f"methods/{name}.html", "method.html", card=method_class(name).card, specs=specs, heads=heads, settings=settings,
        body=Markup(to_html(methods.documentation(name), lambda address: address if "://" in address else None)),
        published=methods.published_of(name), columns=methods.RUN_COLUMNS, rows=methods.run_rows(records),
        figures=[(f"Confusion on {shift}", file) for shift, file in confusions if file],
        films=[film for shift in site.shifts if (film := site.film(shift, name)) is not None],
        sees=page.SEES, bibtex=methods.bibtex([name]),
    )  # fmt: skip


def _documents(site: Site) -> None:
    from markupsafe import Markup

    for name, kind, title in site.titles():
        body = Markup(to_html(site.documents[name], site.place))
        site.add(f"{name}.html", "document.html", title=title, kind=kind, back="index.html", body=body)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    lines, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


# Files ----------------------------------------------------------------------------------------------------------------


def build(root: Path, progress: Progress = quiet) -> dict[str, Content]:
    """All files of the site by name.

    Raises:
        UsageError: there is no leaderboard.
        RunError: a record that does not belong, or a page that is not what the records give.
    """
    if stale := page.of_root(root).stale():
        raise RunError(f"{stale[0]} is not what the records give; first: bench leaderboard --root {root}")
    names = [folder.name for folder in sorted((root / "records").glob("*")) if any(folder.glob("*.json"))]
    committed = {name: read_committed(root, name) for name in names}
    site = Site(root, {name: part.records for name, part in committed.items()})
    site.sequences = {name: part.sequences for name, part in committed.items()}
    reported = settings_page.columns()
    keys = method_names()
    leads: dict[str, str] = {}
    for number, shift in enumerate(site.shifts, 1):
        leads[shift.name] = board.lead(_board(site, shift).lines)
        progress("boards", number, len(site.shifts))
    for number, name in enumerate(keys, 1):
        _method(site, name, reported)
        progress("methods", number, len(keys))
    _documents(site)
    cards = [method_class(name).card for name in keys]
    first = [(shift, site.pictures(shift)) for shift in site.shifts[:1]]
    counts = {name: len(shift_records) for name, shift_records in site.records.items()}
    overview = site.figure("figures/overview.png") if "overview" in site.documents else None
    site.add("index.html", "index.html", cards=cards, counts=counts, leads=leads, first=first, overview=overview)
    site.files["data/methods.bib"] = methods.bibtex(keys)
    site.files |= assets()
    for number, (name, file) in enumerate(sorted(site.copied.items()), 1):
        site.files[name] = picture(file) if name.endswith(".webp") else file.read_bytes()
        progress("pictures", number, len(site.copied))
    return site.files


def assets() -> dict[str, Content]:
    """Scripts and styles."""
    return {
        "assets/charts.js": extra.chart_script(),
        "assets/tables.js": extra.table_script(),
        "assets/tables.css": extra.table_styles(),
        "assets/licences.txt": extra.licences(),
        "assets/site.js": own("site.js"),
        "assets/site.css": own("site.css"),
    }


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture.

    Raises:
        RunError: it is none.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return int(image.width), int(image.height)
    except (OSError, SyntaxError, ValueError) as error:
        raise RunError(f"{file} is no picture: {error}; make it again with `bench strip --films`") from None


def picture(file: Path) -> bytes:
    """A PNG as WebP, for a page.

    Raises:
        RunError: it is no picture.
    """
    buffer = io.BytesIO()
    try:
        colour_picture(file).save(buffer, "WEBP", **WEBP)
    except (BadFile, ValueError) as error:  # of more pixels than a WebP may have
        raise RunError(
            f"{file} is no picture for a page: {short(error)}; draw it again with `bench leaderboard`"
        ) from None
    return buffer.getvalue()


def write_site(root: Path, out: Path, progress: Progress = quiet) -> list[Path]:
    """Write the site; what an earlier one left in ``out`` goes, what is the user's stays.

    Raises:
        UsageError: ``out`` lies in what is read, or a file of the user's is in the way.
        RunError: see :func:`build`; a full disk.
    """
    check_folder(out)
    apart(out, {"the leaderboards": root})
    content = build(root, progress)
    with locked(out / ".site"), Output(out, "site") as output:
        output.check(content)
        output.clear(keep=content)
        for name, file_content in content.items():
            with disk_errors(out / name):
                write_atomically(out / name, file_content)
    return [out / name for name in content]
