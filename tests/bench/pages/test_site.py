"""The site's files: what they show is what the markdown shows, every link leads somewhere, nothing of a record is markup."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag

import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import bench
from bench import cli
from bench.core.errors import RunError, UsageError
from bench.leaderboards.published import compared_with
from bench.leaderboards.tables import main_table
from bench.pages import board, extra, methods
from bench.pages.text import title_of, to_html
from bench.runs.records import Record
from tests.bench.leaderboards.made import SCORES, SHIFT, make_record, standard
from tests.bench.pages.conftest import HOSTILE, needs_extra

IN_MARKDOWN = ["setting", "design", "n", "miou", "gain", "gap", "consistency", "place", "group", "cpu", "slowness"]
"""Columns of the markdown table after the method, in its order."""


class Page(HTMLParser):
    """Addresses, scripts, ids and the cells of tables with an id."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        self.links += [attributes["href"]] if tag == "a" else []
        self.loaded += [attributes[key] for key in ("src", "href") if tag != "a" and key in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "table":
            self._table = attributes.get("id", "")
            self.tables[self._table] = []
        if tag == "tr" and self._table:
            self.tables[self._table].append([])
        if tag == "td" and self._table:
            self.tables[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._table = "" if tag == "table" else self._table

    def handle_data(self, data: str) -> None:
        if self._table and self.tables[self._table] and self.tables[self._table][-1]:
            self.tables[self._table][-1][-1] += data.strip()


# Numbers --------------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_markdown_and_worked_out_by_hand() -> None:
    leaderboard = board.board_of(standard(), compared_with(SHIFT))
    rows = {
        row["method"].text: {key: cell.text for key, cell in row.items()} for row in board.table_rows(leaderboard.lines)
    }
    half = stats.t.ppf(0.975, 2) * 4 / 3**0.5  # 40, 44, 48: standard deviation 4
    assert rows["STPL"]["miou"] == f"44.0 ± {half:.1f}" and rows["STPL"]["gain"].startswith("+12.0 ± ")  # 10, 12, 14
    assert rows["STPL"]["published"] == "52.5" and rows["Oracle"]["gap"] == "–"
    lines = main_table(leaderboard.groups, compared_with(SHIFT)).splitlines()[2:]
    for line in lines:
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        row = rows[cells[0].split("]")[0].strip("[")]
        assert [row[key] for key in IN_MARKDOWN] == cells[1:12], cells[0]


def test_cells_are_sorted_by_numbers() -> None:
    """One text among a column's keys, and the whole column would be sorted as text: -inf is one."""
    leaderboard = board.board_of(standard(), compared_with(SHIFT))
    rows = board.table_rows(leaderboard.lines)
    numeric = ("n", "miou", "gain", "gap", "consistency", "accuracy", "place", "cpu", "slowness", "memory", "published")
    for row in rows:
        assert all(isinstance(row[key].sort, (int, float)) and abs(float(row[key].sort)) <= 1e9 for key in numeric)
    by_gain = sorted(rows, key=lambda row: -float(row["gain"].sort))
    assert [row["method"].text for row in by_gain][:2] == ["Oracle", "STPL"] and by_gain[-1][
        "method"
    ].text == "Source only"


def test_groups_have_the_letters_of_the_table() -> None:
    leaderboard = board.board_of(standard(), compared_with(SHIFT))
    letters_by_method = {row["method"].text: row["group"].text for row in board.table_rows(leaderboard.lines)}
    for family in leaderboard.families.values():
        for letter, names in board.alike(family, leaderboard.titles):
            assert {name for name, letters in letters_by_method.items() if letter in letters.split()} == set(
                names.split(", ")
            )
    assert leaderboard.families


def test_a_variant_is_a_row_of_its_own() -> None:
    """On MiniStreet 2 STPL without its teacher stands beside STPL: under a name of its own in tables, charts and downloads."""
    scores = {"stpl": (40.0, 44.0), "adabn": (36.0, 37.0)}
    records = [make_record(m, s, x, shift="ministreet2") for m, mious in scores.items() for s, x in enumerate(mious)]
    records += [make_record("stpl", s, 38.0 + s, shift="ministreet2", options={"teacher": "none"}) for s in (0, 1)]
    leaderboard = board.board_of(records, compared_with("ministreet2"))
    names = ["STPL", "STPL, teacher=none", "AdaBN"]
    assert [row["method"].text for row in board.table_rows(leaderboard.lines)] == names
    assert {point["row"] for point in board.pair_points(leaderboard.families["SFDA"], leaderboard.titles)} == set(names)
    assert [point["method"] for point in board.score_points(leaderboard.lines)] == names
    assert {point["method"] for point in board.class_points(leaderboard.groups, ["road"])} == set(names)
    assert [method["options"] for method in board.as_json(leaderboard.lines)] == [[], ["teacher=none"], []]
    assert [row["options"] for row in board.csv_rows(leaderboard.lines, ["road"])] == ["", "teacher=none", ""]


def test_bars_show_the_interval() -> None:
    leaderboard = board.board_of(standard(), compared_with(SHIFT))
    low, high = board.scale_of(leaderboard.lines)
    assert low % 10 == 0 and high % 10 == 0
    for line, row in zip(leaderboard.lines, board.table_rows(leaderboard.lines), strict=True):
        start, mean, end = row["miou"].bar or (0, 0, 0)
        assert 0 <= start <= mean <= end <= 100
        assert low + mean / 100 * (high - low) == pytest.approx(board.ends_of(line.group)[0])
    (single,) = board.board_of([make_record("stpl", 0, 40.0)], compared_with(SHIFT)).lines
    assert board.ends_of(single.group) == (40.0, 40.0, 40.0)


@needs_extra
def test_downloads_have_all_digits_and_keep_published_apart(site: Path) -> None:
    download = json.loads((site / "data" / f"{SHIFT}.json").read_text(encoding="utf-8"))
    (stpl,) = [method for method in download["methods"] if method["method"] == "stpl"]
    scores = stpl["measured"]["miou"]["by_seed"].values()
    assert sum(scores) / 3 == pytest.approx(stpl["measured"]["miou"]["mean"], rel=1e-12)
    assert stpl["published"]["miou"] == 52.5 and "published" not in json.dumps(stpl["measured"])
    frame = pd.read_csv(site / "data" / f"{SHIFT}.csv").set_index("method")
    assert frame.loc["stpl", "miou"] == pytest.approx(stpl["measured"]["miou"]["mean"])
    assert [name for name in frame.columns if "published" in name.lower()] == ["PUBLISHED_miou", "PUBLISHED_source"]
    runs = pd.read_csv(site / "data" / f"{SHIFT}-runs.csv")
    assert len(runs) == 3 * len(SCORES) + 2 and set(runs["options"].dropna()) == {"fusion=none"}


def test_bibtex_names_each_paper_once() -> None:
    text = methods.bibtex(["stpl", "tps", "tps_sf", "oracle"])
    assert text.count("@inproceedings") == 2  # both TPS are of one paper; the oracle has none
    assert "author = {Lo and Oza and Chennupati and Galindo and Patel}" in text and "booktitle = {CVPR}" in text
    assert "title = {{Spatio-Temporal Pixel-Level Contrastive Learning-based Source-Free Domain" in text


# Pages ----------------------------------------------------------------------------------------------------------------


@needs_extra
def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {file.relative_to(site).as_posix(): Page(file) for file in site.rglob("*.html")}
    assert {"index.html", f"{SHIFT}.html", f"{SHIFT}-all.html", "methods/stpl.html", "settings.html"} <= set(pages)
    seen = set()
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), name
        for address in page.links + page.loaded:
            if address.startswith(("https://", "data:")):
                assert address not in page.loaded or address.startswith("data:"), (name, address)
                continue
            path, part = urldefrag(address)
            target = (PurePosixPath(name).parent / path).as_posix() if path else name
            target = str(Path(site / target).resolve().relative_to(site.resolve()))
            assert (site / target).is_file(), (name, address)
            seen.add(target)
            assert not part or part in pages[target].ids, (name, address)
    unreached = set(pages) - seen
    assert unreached == set()


@needs_extra
def test_recorded_drives_stand_first_where_somebody_ran_them(root: Path, tmp_path: Path) -> None:
    from bench.pages.site import Site

    root_copy = shutil.copytree(root, tmp_path / "root")
    (root_copy / "viper2cityscapes.md").write_text("# Leaderboard: VIPER\n")
    (root_copy / "atlas-night.md").write_text("# Leaderboard: Atlas: night\n")
    ran: dict[str, list[Record]] = {SHIFT: [], "atlas-night": []}
    order = [[shift.name for shift in Site(root_copy, r).shifts] for r in (ran, ran | {"viper2cityscapes": []})]
    rendered = [SHIFT, "atlas-night"]
    assert order == [[*rendered, "viper2cityscapes"], ["viper2cityscapes", *rendered]]


@needs_extra
def test_the_first_page_leads_to_the_overview_where_there_is_one(root: Path) -> None:
    from bench.pages.site import Site, templates

    def first(overview: str | None) -> str:
        given = {"cards": [], "counts": {}, "leads": {}, "first": [], "up": "", "site": Site(root, {})}
        return templates().get_template("index.html").render(overview=overview, **given)

    assert '<a href="overview.html"><img src="figures/overview.webp"' in first("figures/overview.webp")
    assert "overview" not in first(None)


@needs_extra
def test_the_first_page_shows_what_came_out(site: Path) -> None:
    leaderboard = board.board_of(standard(), compared_with(SHIFT))
    assert board.lead(leaderboard.lines) == "STPL 44.0, AdaBN 36.0, Oracle 72.0, Source only 32.0"
    assert (
        board.lead([line for line in leaderboard.lines if line.group.card.setting != "SFDA"])
        == "Oracle 72.0, Source only 32.0"
    )
    first = (site / "index.html").read_text(encoding="utf-8")
    pictures = [name for name in Page(site / "index.html").loaded if name.endswith(".webp")]
    assert pictures == [f"figures/{SHIFT}-panels.webp"] and "mIoU: STPL " in first


@needs_extra
def test_the_table_is_in_the_page_before_any_script(site: Path) -> None:
    table = Page(site / f"{SHIFT}.html").tables["results-table"]
    text = (site.parent / "out" / f"{SHIFT}-all.html").read_text(encoding="utf-8")
    rows = [row for row in table if row]
    assert len(rows) == len(SCORES) and all(len(row) == len(board.COLUMNS) for row in rows)
    for row in rows:  # the markdown page has the same text
        assert row[0] in text and row[5] in text, row


@needs_extra
def test_what_records_say_is_no_markup() -> None:
    """Committed records with such a text are refused; a table must be safe without that."""
    from bench.pages.site import templates

    record = make_record("stpl", 0, 40.0, code={"revision": HOSTILE, "dirty": False}, date=HOSTILE)
    text = '{% import "macros.html" as m %}{{ m.table("a", columns, rows, file) }}'
    html = (
        templates().from_string(text).render(columns=methods.RUN_COLUMNS, rows=methods.run_rows([record]), file='"><b>')
    )
    assert html.count("&lt;script&gt;alert(1)") == 4  # text and what it is sorted by, of both
    assert "<script" not in html and "<img" not in html and "<b>" not in html


@needs_extra
def test_data_in_a_page_cannot_end_its_script() -> None:
    from bench.pages.charts import scores
    from bench.pages.site import templates

    point = {"method": HOSTILE, "setting": "SFDA", "design": "-", "miou": 1.0, "low": 0.5, "high": 1.5, "text": "1"}
    text = '{% import "macros.html" as m %}{{ m.chart("a", spec) }}'
    html = templates().from_string(text).render(spec=scores([point]))
    assert html.count("<script") == html.count("</script>") == 1 and "alert(1)" in html


@needs_extra
def test_it_is_small_and_the_same_again(site: Path, root: Path) -> None:
    from bench.pages.site import build

    files = [file for file in site.rglob("*") if file.is_file() and file.suffix not in (".gif", ".mp4")]
    assert sum(file.stat().st_size for file in files) < 5_000_000
    rebuilt = build(root)
    names_on_disk = {file.relative_to(site).as_posix() for file in files if not file.name.startswith(".")}
    assert set(rebuilt) == names_on_disk
    for name, content in rebuilt.items():
        assert (site / name).read_bytes() == (content.encode() if isinstance(content, str) else content), name


@needs_extra
def test_the_users_files_stay(site: Path, root: Path, tmp_path: Path) -> None:
    from bench.pages import site as site_module

    out = shutil.copytree(site, tmp_path / "out")
    content = {"index.html": "new", "methods/new.html": "new"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_module, "build", lambda *_: content)
        (out / "notes.txt").write_text("mine")
        site_module.write_site(root, out)
        remaining = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
        assert {*content, "notes.txt"} == {name for name in remaining if not name.startswith(".")}
        (out / "index.html").write_text("changed by hand")
        with pytest.raises(UsageError, match=r"index\.html was not written by `bench site`, or was changed since"):
            site_module.write_site(root, out)
        with pytest.raises(UsageError, match="lies in the leaderboards"):
            site_module.write_site(root, root / "site")
        (tmp_path / "so.json").touch()
        with pytest.raises(UsageError, match=r"so.json is not a folder; choose another --out"):
            site_module.write_site(root, tmp_path / "so.json")
    assert (out / "index.html").read_text() == "changed by hand"


@needs_extra
def test_a_stale_page_is_no_site(root: Path, tmp_path: Path) -> None:
    root_copy = shutil.copytree(root, tmp_path / "root")
    (root_copy / f"{SHIFT}.md").write_text("# Leaderboard: 99.9 %\n")
    with pytest.raises(RunError, match=r"ministreet\.md is not what the records give; first: bench leaderboard --root"):
        bench.site(tmp_path / "out", root_copy)
    assert not (tmp_path / "out").exists()


@needs_extra
def test_versions_that_do_not_go_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("altair.SCHEMA_VERSION", "v9.9.1")
    extra.chart_script.cache_clear()
    with pytest.raises(RunError, match=r"altair writes Vega-Lite 9\.9, which vl-convert-python does not bring"):
        extra.chart_script()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extra, "NEEDED", ("no_such_module",))
    for words in (["site", "--out", str(tmp_path / "out")], ["report", "runs/x"]):
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code == 2
        assert result.stderr == f"bench: `bench {words[0]}` needs no_such_module: pip install 'stpl-benchmark[site]'\n"


# Text -----------------------------------------------------------------------------------------------------------------


def test_markdown_keeps_its_text_and_its_links_lead_into_the_site() -> None:
    places = {"a.md": "a.html", "figures/x.png": "figures/x.webp", "https://x.org": "https://x.org"}
    html = to_html(
        "# T *x*\n\n<b>&lt;i&gt;</b> [a](a.md) [gone](b.md) ![c](figures/x.png) ![d](y.png) [w](https://x.org)\n",
        places.get,
    )
    assert html == (
        '<h1 id="t-x">T <em>x</em></h1>\n<p>&lt;b&gt;&lt;i&gt;&lt;/b&gt; <a href="a.html">a</a> gone '
        '<img src="figures/x.webp" alt="c" loading="lazy" /> d <a href="https://x.org" rel="noopener">w</a></p>\n'
    )
    assert "<table>" in to_html("|a|\n|-|\n|`b\\|c`|\n", places.get) and "<script" not in to_html(
        "<script>", places.get
    )
    assert title_of("# Study: A \\*b\\*\n\ntext") == "Study: A *b*"


def test_a_film_is_laid_beside_the_others(site: Path) -> None:
    """On the pages of methods that have one: what it starts with, what may be chosen, files as they are."""
    films = {name: (site / "methods" / f"{name}.html").read_text() for name in ("stpl", "source_only", "adabn")}
    assert 'id="films"' not in films["adabn"]
    shown = re.findall(r'<img src="\.\./figures/[\w-]+-film-(\w+)\.png" alt="([^"]+)"', films["stpl"])
    assert shown == [("source_only", "Source only"), ("stpl", "STPL")]
    assert re.findall(r'-film-(\w+)\.png" alt', films["source_only"]) == ["frames", "source_only"]
    assert films["stpl"].count('<option value="../figures/') == 6 and 'max="4" value="1"' in films["stpl"]
    assert (site / "figures" / f"{SHIFT}-film-stpl.png").is_file()
