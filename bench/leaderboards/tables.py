"""The tables of a leaderboard page: rows from groups of records. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.core.text import beside, code, link, listed, plain, table
from bench.runs.config import load_shift, resolve_settings

from .bootstrap import Resampled, paired_bootstrap
from .cost import (
    cpu_per_step,
    largest,
    median,
    memory_of,
    of_processors,
    ratio,
    ratio_text,
    time_per_frame,
    yardstick_of,
)
from .drive import by_frame, paired_blocks, video_cells, video_names
from .published import Published, in_paper, published
from .ranking import ALPHA, Family, family, holm, larger
from .standings import Group
from .statistics import (
    NOTHING,
    Paired,
    bounds,
    difference,
    gap_closed,
    mean_interval,
    p_value,
    paired_difference,
    rank_correlation,
    spread,
)


@dataclass(frozen=True)
class Line:
    """A method's row of the results, as numbers.

    Attributes:
        group: its records.
        gain: mIoU points over source-only; None for source-only itself.
        gap_closed: percent of the way from source-only to the oracle, by seed; empty for these two.
        consistency: temporal consistency in percent, by seed.
        places: best and worst place within its setting; None where nothing can be tested.
        letters: of the groups of its setting that cannot be told apart; empty likewise.
        cpu: CPU seconds per step, by seed; empty where there are no steps.
        slowness: median of that over self-training's, on the same processor.
        published: on the real shift; None where there is none.
    """

    group: Group
    gain: Paired | None
    gap_closed: Mapping[int, float]
    consistency: Mapping[int, float]
    places: tuple[int, int] | None
    letters: str
    cpu: Mapping[int, float]
    slowness: float | None
    published: Published | None


def lines_of(groups: Sequence[Group], real: str) -> list[Line]:
    """The rows of :func:`main_table` as numbers, in the same order.

    Args:
        real: shift whose published numbers stand beside.
    """
    by_method = {group.name: group.miou for group in groups}
    floor, ceiling = by_method.get("source_only", {}), by_method.get("oracle", {})
    families, slowness = families_of(groups), yardstick_of(groups)
    lines = []
    for group in groups:
        pairs = families.get(group.card.setting)
        own_floor = {} if group.method == "source_only" else floor
        own_ceiling = {} if group.method == "oracle" else ceiling
        line = Line(
            group=group,
            gain=paired_difference(group.miou, own_floor),
            gap_closed=gap_closed(group.miou, own_floor, own_ceiling),
            consistency=group.of(lambda record: record.result.temporal_consistency),
            places=pairs.places(group.name) if pairs else None,
            letters=pairs.letters[group.name] if pairs else "",
            cpu=group.of(cpu_per_step),
            slowness=ratio(group, slowness, cpu_per_step),
            published=None if group.altered else published(real, group.card.key),
        )
        lines.append(line)
    return lines


def main_table(groups: Sequence[Group], real: str) -> str:
    """Measured columns, and in the last two the published number with its source."""
    rows = []
    for line in lines_of(groups, real):
        group, card, row = line.group, line.group.card, line.published
        cells = {
            "method": link(group.title, card.url),
            "setting": card.setting,
            "design": card.design.replace("-", NOTHING),
            "n": str(len(group.records)),
            "mIoU, %": spread(group.miou.values()),
            "gain": difference(line.gain, 1),
            "gap closed, %": spread(line.gap_closed.values(), 0),
            "temporal cons., %": spread(line.consistency.values()),
            "place": place_text(line.places),
            "group": line.letters or NOTHING,
            "CPU s/step": median(line.cpu, 3),
            "step, ×": ratio_text(line.slowness),
            f"PUBLISHED mIoU, {real}, %": f"*{row.miou:.1f}*" if row else "†" if card.floor else NOTHING,
            "source of the published number": f"*{plain(row.source)}*" if row else NOTHING,
        }
        rows.append(cells)
    return table(rows)


def families_of(groups: Sequence[Group]) -> dict[str, Family]:
    """All pairs within each setting that has at least two methods and a pair with two shared replicates.

    Where frames of a drive are scored, the same in every replicate, two methods are told apart if they differ over replicates and
    over blocks of the drive: chance in adaptation alone would be half of the question.
    """
    families = {}
    for setting in sorted({str(group.card.setting) for group in groups}):
        rivals = {group.name: group for group in groups if group.card.setting == setting}

        def over_drive(a: str, b: str, rivals: Mapping[str, Group] = rivals) -> float | None:
            resampled = paired_blocks(rivals[a].sequences, rivals[b].sequences)
            return resampled.p if resampled else None

        second = over_drive if _by_frame(next(iter(rivals.values()))) else None
        families[setting] = family({name: group.miou for name, group in rivals.items()}, second)
    return {name: pairs for name, pairs in families.items() if any(p is not None for p in pairs.corrected.values())}


def place_text(places: tuple[int, int] | None) -> str:
    """``2–4``, or ``2`` where it is one place."""
    if places is None:
        return NOTHING
    best, worst = places
    return str(best) if best == worst else f"{best}–{worst}"


def pair_table(groups: Sequence[Group], pairs: Family) -> str:
    """Row minus column for every pair of a setting, bold where they are told apart."""
    titles = {group.name: plain(group.title) for group in groups}
    rows = []
    for a in pairs.names:
        cells = {"method": titles[a]}
        for b in pairs.names[1:]:
            pair = pairs.differences.get((a, b)) if pairs.names.index(a) < pairs.names.index(b) else None
            text = "" if pair is None else difference(pair)
            cells[titles[b]] = f"**{text}**" if text and pairs.told_apart(a, b) else text
        rows.append(cells)
    return table(rows[:-1])


def stream_table(groups: Sequence[Group]) -> str:
    """Rows of a stream: online scores, and what each frame took (medians over replicates; times relative to source-only's)."""
    floor = next((group for group in groups if group.method == "source_only"), None)
    families, rows, video = families_of(groups), [], video_names(groups)
    timed_groups = of_processors(groups)
    reference = next((timed for timed in timed_groups if timed.method == "source_only"), None)
    for group, timed in zip(groups, timed_groups, strict=True):
        pairs, time = families.get(group.card.setting), timed.of(time_per_frame)
        gain = None if floor is None or group is floor else paired_difference(group.miou, floor.miou)
        cells = {
            "method": link(group.title, group.card.url),
            "setting": group.card.setting,
            "design": group.card.design.replace("-", NOTHING),
            "n": str(len(group.records)),
            "online mIoU, %": spread(group.miou.values()),
            "gain": difference(gain, 1),
            "temporal cons., %": spread(group.of(lambda record: record.result.temporal_consistency).values()),
            **video_cells(group, video),
            "place": place_text(pairs.places(group.name) if pairs else None),
            "group": (pairs.letters[group.name] if pairs else "") or NOTHING,
            "s/frame": median(time, 3),
            "×": ratio_text(ratio(timed, reference, time_per_frame)),
            "wall s/frame": median(timed.of(lambda record: record.cost.seconds_per_frame), 3),
            "memory, MB": largest(timed.of(memory_of)),
        }
        rows.append(cells)
    return table(rows)


def class_table(groups: Sequence[Group], classes: Sequence[str]) -> str:
    """Mean IoU per class and their mean; the best source-free method of each column in bold."""
    columns = {plain(name): [_mean(group.iou(name)) for group in groups] for name in classes}
    columns["mIoU"] = [_mean(group.miou) for group in groups]
    rivals = [row for row, group in enumerate(groups) if group.card.setting == "SFDA"]
    rows = [{"method": plain(group.title)} for group in groups]
    for name, means in columns.items():
        rival_means = [mean for row in rivals if (mean := means[row]) is not None]
        best = max(rival_means) if len(rival_means) > 1 else None
        for row, mean in enumerate(means):
            text = NOTHING if mean is None else f"{mean:.1f}"
            rows[row][name] = f"**{text}**" if row in rivals and mean is not None and mean == best else text
    return table(rows)


def _mean(values: Mapping[int, float]) -> float | None:
    """The mean as it is shown, one decimal; equal texts are equal numbers."""
    return round(mean_interval(list(values.values()))[0], 1) if values else None


def selection_table(groups: Sequence[Group]) -> str:
    """mIoU under the three selection rules, each in its own column, with the looks at the reported labels."""
    rows = []
    for group in groups:
        unsupervised = group.of(lambda record: record.selection.unsupervised["miou"])
        best = group.of(lambda record: record.selection.oracle["miou"])
        looks = sorted({int(record.selection.oracle["label_looks"]) for record in group.records.values()})
        cells = {
            "method": plain(group.title),
            "n": str(len(group.records)),
            "`last` (0 looks)": spread(group.miou.values()),
            "unsupervised (0 looks)": spread(unsupervised.values()),
            "best on the labels": spread(best.values()),
            "its looks per run": ", ".join(map(str, looks)),
        }
        rows.append(cells)
    return table(rows)


def order_table(groups: Sequence[Group], real: str) -> str:
    """Rank correlation of the measured order with that of the paper's table, for all its rows and for groups of them."""
    sides = {
        "all rows": groups,
        "without source-only and oracle": [g for g in groups if g.card.setting in ("SFDA", "UDA")],
        "source-free (SFDA)": [g for g in groups if g.card.setting == "SFDA"],
        "UDA": [g for g in groups if g.card.setting == "UDA"],
    }
    rows = []
    for name, members in sides.items():
        numbers = {g.name: miou for g in members if (miou := in_paper(real, g.name)) is not None}
        correlation = rank_correlation({g.name: g.miou for g in members}, numbers)
        if correlation is not None:
            interval = NOTHING if correlation.low is None else f"{correlation.low:+.2f} to {correlation.high:+.2f}"
            cells = {
                "rows of the paper's table": name,
                "methods": str(correlation.methods),
                "n": str(correlation.seeds),
            }
            rho = {"Spearman's ρ": f"{correlation.rho:+.2f}", "p": p_value(correlation.p)}
            rows.append(cells | rho | {"interval over replicates": interval})
    return table(rows)


def average_table(groups: Sequence[Group]) -> str:
    """Methods that evaluate their own average of weights, beside their student's score; empty where there is none."""
    rows = []
    for group in groups:
        students = group.of(lambda record: record.beside["student"].miou if "student" in record.beside else None)
        if students:
            cells = {"method": plain(group.title), "n": str(len(students))}
            cells |= {"its average (the row above)": spread(group.miou.values()), "student": spread(students.values())}
            rows.append(cells)
    return table(rows)


def compared_pairs(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """The floors with each other and every other source-free method with self-training."""
    by_method = {group.name: group for group in groups}
    source_free = [g.name for g in groups if g.card.setting == "SFDA" and not g.card.floor]
    name_pairs = [
        ("adabn", "source_only"),
        ("self_training", "adabn"),
        *((name, "self_training") for name in source_free),
    ]
    return [(by_method[a], by_method[b]) for a, b in name_pairs if a in by_method and b in by_method]


def comparison_table(groups: Sequence[Group]) -> str:
    """:func:`compared_pairs`; empty where none is there."""
    pairs = compared_pairs(groups)
    names = [{"method": plain(a.title), "minus": plain(b.title)} for a, b in pairs]
    return table(beside(names, comparisons(pairs)))


def two_verdicts(groups: Sequence[Group]) -> str:
    """Which of :func:`compared_pairs` are told apart by their own table and not by all pairs of the setting; empty for none."""
    pairs, families = compared_pairs(groups), families_of(groups)
    _, corrected, _, redrawn = _tested(pairs)
    disputed = []
    for (a, b), by_replicates, by_blocks in zip(pairs, corrected, redrawn, strict=True):
        p = larger(by_replicates, by_blocks) if _by_frame(a) else by_replicates
        family = families.get(a.card.setting) if a.card.setting == b.card.setting else None
        large = family.corrected.get((a.name, b.name)) if family else None
        if p is not None and large is not None and p < ALPHA <= large:
            disputed.append(f"{plain(a.title)} − {plain(b.title)} ({p_value(p)} here, {p_value(large)} there)")
    if not disputed:
        return ""
    return (
        f"Told apart by the p-values of this table alone, and not where all pairs of the setting are tested: {listed(disputed)}. "
        "Places, groups and the overview go by all pairs, and by RULES.md so does what is called a difference."
    )


def control_table(groups: Sequence[Group], everything: Sequence[Group]) -> str:
    """Altered configurations against the unaltered method, and against self-training with the same options, by seed.

    Args:
        groups: those to show.
        everything: where the unaltered methods are looked up.
    """
    unaltered = {group.method: group for group in everything if not group.altered}
    floors = {group.altered: group.miou for group in everything if group.method == "self_training"}
    shared = {"fusion", "flow", "network", "frames", "ingredients", "reset", *resolve_settings("self_training", {})}
    cells, pairs, over = [], [], []
    for group in groups:
        reference = unaltered.get(group.method, Group(group.method, (), {}))
        same = tuple(text for text in group.altered if text.split("=")[0] in shared)
        rival = {} if group.method == "self_training" else floors.get(same, {})
        facts = {
            "method": plain(group.card.title),
            "changed options": ", ".join(map(code, group.altered)),
            "mIoU, %": spread(group.miou.values()),
            "unchanged, %": spread(reference.miou[seed] for seed in sorted(reference.miou.keys() & group.miou.keys())),
        }
        cells.append(facts)
        pairs.append((group, reference))
        over.append({"minus self-training, same options": difference(paired_difference(group.miou, rival))})
    return table(beside(beside(cells, comparisons(pairs)), over))


def comparisons(pairs: Sequence[tuple[Group, Group]]) -> list[dict[str, str]]:
    """For each pair of groups: shared replicates, paired difference, its t-test, and the paired bootstrap over sequences, the
    p-values of both also corrected for the number of rows."""
    rows = []
    for test, p, resampled, q in zip(*_tested(pairs), strict=True):
        cells = {
            "pairs": str(test.n if test else 0),
            "difference": difference(test),
            "p": p_value(test.p if test else None),
            "p, Holm": p_value(p),
            "bootstrap 95 %": _drawn(resampled),
            "bootstrap p, Holm": p_value(q),
        }
        rows.append(cells)
    return rows


def _tested(
    pairs: Sequence[tuple[Group, Group]],
) -> tuple[list[Paired | None], list[float | None], list[Resampled | None], list[float | None]]:
    """T-tests of pairs, their p-values corrected for the number of pairs, bootstraps, and theirs corrected."""
    tests = [paired_difference(a.miou, b.miou) for a, b in pairs]
    drawn = [(paired_blocks if _by_frame(a) else paired_bootstrap)(a.sequences, b.sequences) for a, b in pairs]
    corrected = holm([test.p if test else None for test in tests])
    return tests, corrected, drawn, holm([resampled.p if resampled else None for resampled in drawn])


def _by_frame(group: Group) -> bool:
    record = next(iter(group.records.values()), None)
    return record is not None and by_frame(load_shift(record.config.shift))


def _drawn(resampled: Resampled | None) -> str:
    return NOTHING if resampled is None else bounds(resampled.low, resampled.high)
