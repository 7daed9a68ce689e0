"""Leaderboards from hand-made records; every mean, interval and p-value checked here is worked out in the comments."""

from __future__ import annotations

import itertools
import json
import random

from bench.leaderboards.page import SEES, build
from bench.leaderboards.standings import oracle_and_source_only
from bench.runs.adaptation import GRANTS
from bench.runs.config import alterations, load_shift, methods_on
from bench.runs.records import Record
from tests.bench.leaderboards.made import SCORES, SHIFT, make_record, row, standard, table

DRIVE = "cityscapes2camvid"


def test_main_table_by_hand() -> None:
    rows = table(build(SHIFT, standard()), "Results")
    # The order is by what a setting may see, then by mean.
    assert [r["setting"] for r in rows] == ["oracle", "SFDA", "SFDA", "none"]
    stpl = row(rows, "STPL")
    assert stpl["method"] == "[STPL](https://arxiv.org/abs/2303.14361)"
    assert stpl["design"] == "video"
    assert stpl["n"] == "3"  # the control is not among them
    assert stpl["mIoU, %"] == "44.0 ± 9.9"  # s = 4, 4.303 * 4 / sqrt 3 = 9.94
    assert stpl["gain"] == "+12.0 ± 5.0"  # 10, 12, 14
    assert stpl["gap closed, %"] == "30 ± 12"  # 10, 12, 14 of 40: 25, 30, 35
    assert stpl["temporal cons., %"] == "61.0 ± 2.5"  # 60, 61, 62: 4.303 / sqrt 3 = 2.48
    assert stpl["CPU s/step"] == "0.055"  # median of 10, 11, 12 seconds over 200 steps
    assert stpl["step, ×"] == "–"  # no self-training to compare with
    # STPL minus AdaBN: 4, 8, 12: t = 8 / (4 / sqrt 3) = 3.46 with 2 degrees of freedom, p = 0.074: not told apart
    assert (stpl["place"], stpl["group"]) == ("1–2", "a")
    assert stpl["PUBLISHED mIoU, viper2cityscapes, %"] == "*52.5*"
    assert stpl["source of the published number"] == "*STPL CVPR 2023 slides*"


def test_a_variant_is_a_row_where_that_was_fixed_beforehand() -> None:
    """MiniStreet 2 and the atlas have STPL without its teacher among their rows, the older MiniStreet among its controls."""
    for shift, as_row in (("ministreet2", True), ("atlas-night", True), (SHIFT, False)):
        records = [make_record(m, s, x, shift=shift) for m, scores in SCORES.items() for s, x in enumerate(scores)]
        variant = [
            make_record("stpl", s, x, shift=shift, options={"teacher": "none"}) for s, x in enumerate((35, 37, 40))
        ]
        page = build(shift, records + variant)
        name = "STPL, teacher=none"
        assert ([r["mIoU, %"] for r in table(page, "Results") if name in r["method"]] == ["37.3 ± 6.3"]) is as_row
        assert ("## Controls" in page) is not as_row
        if as_row:
            cells = row(table(page, "Results"), name)
            assert (cells["place"], cells["PUBLISHED mIoU, viper2cityscapes, %"]) == (
                "1–3",
                "–",
            )  # the paper's number is not its own
            assert name in table(page, "Every pair of SFDA methods")[0]
            assert row(table(page, "IoU per class"), name)["mIoU"] == "37.3"
            assert (
                row(table(page, "Measured against published order"), "all rows")["methods"] == "3"
            )  # it is not among them


def test_a_page_names_the_methods_that_it_lacks() -> None:
    """Those that the shift takes, of built-in ones; nothing where all are there."""
    (missing,) = [line for line in build(SHIFT, standard()).splitlines() if line.startswith("Not measured here yet: ")]
    assert "`hcl`" in missing and "`tps`" in missing and "`stpl`" not in missing and "`oracle`" not in missing
    (missing,) = [
        x for x in build(DRIVE, [make_record("stpl", 0, 40.0, shift=DRIVE)]).splitlines() if "Not measured" in x
    ]
    assert "`hcl`" in missing and "`tps`" not in missing  # there is no source data
    records = [make_record(method, 0, 40.0) for method in methods_on(SHIFT)]
    assert "Not measured here yet" not in build(SHIFT, records)


def test_cost_is_cpu_time_relative_to_self_training() -> None:
    changes = {"seconds": 42.0, "cpu_seconds": 22.0, "peak_memory_mb": 450.0}
    slow = make_record("self_training", 0, 40.0).cost.model_copy(update=changes)
    page = build(SHIFT, [*standard(), make_record("self_training", 0, 40.0, cost=slow.model_dump())])
    rows = table(page, "Cost")
    stpl = row(rows, "STPL")
    assert (stpl["CPU s/step"], stpl["CPU, s"]) == ("0.055", "11")
    assert stpl["step, ×"] == "0.50"  # 0.055 over 0.11
    assert (stpl["wall s/step"], stpl["wall, s"]) == ("0.105", "21")  # 20, 21, 22 seconds over 200 steps
    assert (stpl["memory, MB"], stpl["memory, ×"]) == ("902", "2.00")  # median of 900, 901, 902 over 450
    assert stpl["parameters, M"] == "0.60"
    assert row(rows, "Self-training")["step, ×"] == "1.00"
    assert [row(rows, "AdaBN")[name] for name in ("step, ×", "CPU, s", "wall s/step")] == ["–"] * 3  # takes no step
    assert row(table(page, "Results"), "STPL")["step, ×"] == "0.50"


def test_cost_is_of_processors_alone_where_a_method_ran_on_both() -> None:
    card = {"cpu": "A CPU", "cores": 2, "threads": 2, "device": "cuda", "gpu": "A card", "system": "Linux"}
    fast = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 9000.0}
    cost = make_record("stpl", 0, 40.0).cost.model_copy(update=fast).model_dump()
    records = [*standard(), *(make_record("stpl", seed, 40.0, cost=cost, hardware=card) for seed in range(3, 8))]
    records.append(make_record("ur", 3, 40.0, cost=cost, hardware=card))
    page = build(SHIFT, records)
    assert "Runs on a GPU are left out." in page and "Runs on a GPU" not in build(SHIFT, standard())
    stpl, ur = (row(table(page, "Cost"), name) for name in ("STPL", "UR"))
    assert (stpl["CPU s/step"], stpl["wall, s"], stpl["memory, MB"]) == ("0.055", "21", "902")
    assert {ur[name] for name in ("CPU s/step", "CPU, s", "wall s/step", "memory, MB")} == {"–"}
    assert row(table(page, "Results"), "STPL")["CPU s/step"] == "0.055"
    page = build(SHIFT, [make_record(method, 0, 40.0, cost=cost, hardware=card) for method in ("stpl", "ur")])
    stpl = row(table(page, "Cost"), "STPL")  # all on a GPU: wall time and memory are comparable, CPU time says little
    assert (stpl["CPU s/step"], stpl["wall s/step"], stpl["memory, MB"]) == ("–", "0.005", "9000")


def test_every_pair_of_a_setting() -> None:
    records = standard() + [make_record("self_training", seed, x) for seed, x in enumerate((32.0, 36.1, 40.0))]
    page = build(SHIFT, records)
    assert [line for line in page.splitlines() if line.startswith("## Every pair")] == ["## Every pair of SFDA methods"]
    rows = table(page, "Every pair of SFDA methods")
    # Best mean first; STPL minus self-training 8, 7.9, 8: s = 0.0577, t = 239, p = 2e-5: told apart after three-fold correction
    name = "Self-training (mean teacher)"
    assert list(rows[0]) == ["method", name, "AdaBN"] and [r["method"] for r in rows] == ["STPL", name]
    assert rows[0][name] == "**+7.97 ± 0.14**" and rows[0]["AdaBN"] == "+8.00 ± 9.94" and rows[1][name] == ""
    results = table(page, "Results")
    places = {r["method"].split("]")[0].strip("["): (r["place"], r["group"]) for r in results}
    assert places["STPL"] == ("1–2", "a") and places[name] == ("2–3", "b") and places["AdaBN"] == ("1–3", "a b")
    assert places["Oracle"] == ("–", "–")  # alone in its setting


def test_order_against_the_published_one() -> None:
    # Published: source_only 37.1 < stpl 52.5 < oracle 69.9, and measured so too; adabn has no published number.
    (order,) = table(build(SHIFT, standard()), "Measured against published order")
    assert list(order.values()) == ["all rows", "3", "3", "+1.00", "0.333", "+1.00 to +1.00"]
    assert "Measured against" not in build(SHIFT, [r for r in standard() if r.config.method != "oracle"])


def test_two_processors_are_not_compared() -> None:
    """Self-training ran on A: 10 s over 200 steps; UR on A and twice on B, STPL on B alone."""

    def timed(method: str, seed: int, cpu: str, seconds: float) -> Record:
        record = make_record(method, seed, 40.0)
        cost = record.cost.model_copy(update={"cpu_seconds": seconds, "peak_memory_mb": seconds})
        return record.model_copy(update={"hardware": {**record.hardware, "cpu": cpu}, "cost": cost})

    records = [timed("self_training", seed, "A", 10.0) for seed in range(3)]
    records += [timed("ur", 0, "A", 15.0), timed("ur", 1, "B", 90.0), timed("ur", 2, "B", 90.0)]
    records += [timed("stpl", seed, "B", 100.0) for seed in range(3)]
    page = build(SHIFT, records)
    for heading in ("Results", "Cost"):
        rows = table(page, heading)
        assert [row(rows, name)["step, ×"] for name in ("Self-training", "UR", "STPL")] == ["1.00", "1.50", "–"]
    assert (
        row(table(page, "Cost"), "UR")["memory, ×"] == "1.50" and row(table(page, "Cost"), "STPL")["memory, ×"] == "–"
    )


def test_a_pair_that_only_the_smaller_table_tells_apart_is_named() -> None:
    """STPL - self-training: 0.4, 0.5, 0.6, t = 8.7, p = 0.013: 0.026 of two rows; 0.039 of the three pairs. HCL makes it six."""
    scores = {"self_training": (40.0, 42.0, 44.0), "stpl": (40.4, 42.5, 44.6), "ur": (40.1, 41.5, 44.9)}
    few = [make_record(method, seed, x) for method, values in scores.items() for seed, x in enumerate(values)]
    assert "Told apart by the p-values of this table alone" not in build(SHIFT, few)
    more = [*few, *(make_record("tent", seed, x) for seed, x in enumerate((41.0, 40.5, 46.0)))]
    page = build(SHIFT, more)
    assert "Told apart by the p-values of this table alone, and not where all pairs" in page
    assert "STPL − Self-training (mean teacher) (0.039 here, 0.078 there)" in page


def test_a_method_that_evaluates_its_average_shows_its_student() -> None:
    student = {"student": make_record("stpl", 0, 35.0).result.model_dump()}
    records = [make_record("stpl", 0, 40.0, beside=student), *(r for r in standard() if r.config.method != "stpl")]
    (cells,) = table(build(SHIFT, records), "Average and student")
    assert (cells["n"], cells["its average (the row above)"], cells["student"]) == ("1", "40.0", "35.0")
    assert "## Average and student" not in build(SHIFT, standard())


def test_floors_and_ceiling_have_no_share_of_the_gap() -> None:
    rows = table(build(SHIFT, standard()), "Results")
    floor, start, ceiling = row(rows, "Source only"), row(rows, "AdaBN"), row(rows, "Oracle")
    assert (floor["gain"], floor["gap closed, %"], floor["CPU s/step"], floor["place"]) == ("–", "–", "–", "–")
    assert (ceiling["gain"], ceiling["gap closed, %"]) == ("+40.0 ± 0.0", "–")
    assert floor["PUBLISHED mIoU, viper2cityscapes, %"] == "*37.1*"  # in the paper's table, floor or not
    assert start["PUBLISHED mIoU, viper2cityscapes, %"] == "†"  # a floor of ours
    assert start["mIoU, %"] == "36.0 ± 0.0"


def test_comparisons_are_the_expected_chain() -> None:
    records = standard() + [make_record("self_training", seed, x) for seed, x in enumerate((32.0, 36.0, 40.0))]
    rows = table(build(SHIFT, records), "Paired comparisons")
    titles = ("Source only", "AdaBN", "Self-training (mean teacher)", "STPL")
    assert [(r["minus"], r["method"]) for r in rows] == list(itertools.pairwise(titles))
    # 6, 4, 2: mean 4, s = 2, t = 4 / (2 / sqrt 3) = sqrt 12, p = 1 - sqrt 12 / sqrt 14; then -4, 0, 4; then 8, 8, 8
    assert (rows[0]["pairs"], rows[0]["difference"], rows[0]["p"]) == ("3", "+4.00 ± 4.97", "0.074")
    assert (rows[1]["difference"], rows[1]["p"]) == ("+0.00 ± 9.94", "1.000")
    assert rows[2]["difference"] == "+8.00 ± 0.00"
    assert [r["p, Holm"] for r in rows] == ["0.148", "1.000", "<0.001"]  # 2 x 0.074, 1, 3 x 0
    assert {r["bootstrap 95 %"] for r in rows} == {"–"}  # records without sequences


def test_controls_are_paired_with_the_unaltered_method() -> None:
    (control,) = table(build(SHIFT, standard()), "Controls and ablations")
    assert (control["method"], control["changed options"]) == ("STPL", "`fusion=none`")
    # 39, 41 against 40, 44: -1, -3; half-width 12.706 * sqrt 2 / sqrt 2, p = 1 - 2/pi atan 2
    assert (control["unchanged, %"], control["pairs"]) == ("42.0 ± 25.4", "2")
    assert (control["difference"], control["p"]) == ("-2.00 ± 12.71", "0.295")
    assert control["minus self-training, same options"] == "–"


def test_controls_stand_beside_self_training_with_the_same_options() -> None:
    records = standard() + [make_record("self_training", seed, 38.0, options={"fusion": "none"}) for seed in range(2)]
    self_training, control = table(build(SHIFT, records), "Controls and ablations")
    assert control["method"] == "STPL"
    assert control["minus self-training, same options"] == "+2.00 ± 12.71"  # 39, 41 less 38
    assert self_training["minus self-training, same options"] == "–"
    times = [make_record("stpl", seed, 39.0, options={"fusion": "none", "times": "current"}) for seed in range(2)]
    control = table(build(SHIFT, records + times), "Controls and ablations")[2]
    assert control["changed options"] == "`fusion=none`, `times=current`"
    assert control["minus self-training, same options"] == "+1.00 ± 0.00"  # an option that self-training does not have


def test_published_ingredients_are_a_table_of_their_own_and_in_no_other() -> None:
    scores = {"source_only": (31.0, 33.0), "stpl": (45.0, 49.0), "oracle": (71.0, 73.0)}
    published = [
        make_record(method, seed, x, options={"ingredients": "published"})
        for method, values in scores.items()
        for seed, x in enumerate(values)
    ]
    before, page = build(SHIFT, standard()), build(SHIFT, [*standard(), *published])
    assert "published ingredients" not in before
    for heading in (
        "Results",
        "IoU per class",
        "Paired comparisons",
        "Cost",
        "Selection rules",
        "Controls and ablations",
    ):
        assert table(page, heading) == table(before, heading)
    section = page.split("## Results with published ingredients")[1].split("\n## ")[0]
    results, changed = section.split("What the ingredients change")
    results, _, order = results.partition(
        "Rank correlation (Spearman) with the table of STPL's paper on viper2cityscapes, as above:"
    )
    result_rows = table(f"\n## Own\n{results}", "Own")
    assert [row(result_rows, name)["mIoU, %"] for name in ("Oracle", "STPL", "Source only")] == [
        "72.0 ± 12.7",
        "47.0 ± 25.4",
        "32.0 ± 12.7",
    ]
    # STPL between source-only and the oracle: the published order of the three, and no fourth
    (correlation,) = table(f"\n## Own\n{order}", "Own")
    assert (correlation["rows of the paper's table"], correlation["methods"], correlation["Spearman's ρ"]) == (
        "all rows",
        "3",
        "+1.00",
    )
    # Over source-only and up to the oracle with the same ingredients: 14 and 16 of 40
    assert (
        row(result_rows, "STPL")["gain"],
        row(result_rows, "STPL")["gap closed, %"],
        row(result_rows, "STPL")["n"],
    ) == (
        "+15.0 ± 12.7",
        "38 ± 32",
        "2",
    )
    stpl = row(table(f"\n## Own\n{changed}", "Own"), "STPL")  # 45 - 40, 49 - 44
    assert (stpl["changed options"], stpl["difference"]) == ("`ingredients=published`", "+5.00 ± 0.00")


def test_selection_rules_stand_in_their_own_columns() -> None:
    stpl = row(table(build(SHIFT, standard()), "Selection rules"), "STPL")
    assert stpl["`last` (0 looks)"] == "44.0 ± 9.9"
    assert stpl["unsupervised (0 looks)"] == "43.0 ± 9.9"
    assert (stpl["best on the labels"], stpl["its looks per run"]) == ("46.0 ± 9.9", "3")


def test_per_class_means_and_the_best_source_free_in_bold() -> None:
    rows = table(build(SHIFT, standard()), "IoU per class")
    assert row(rows, "STPL")["road"] == "**49.0**"  # 45, 49, 53
    assert row(rows, "STPL")["mIoU"] == "**44.0**"
    assert row(rows, "AdaBN")["road"] == "41.0"
    assert row(rows, "Oracle")["road"] == "77.0"  # better, but not source-free: not bold


def test_a_floor_as_good_as_the_best_is_not_bold() -> None:
    records = [make_record(method, 0, 44.0) for method in ("source_only", "stpl")] + [make_record("adabn", 0, 36.0)]
    rows = table(build(SHIFT, records), "IoU per class")
    assert [row(rows, name)["mIoU"] for name in ("STPL", "AdaBN", "Source only")] == ["**44.0**", "36.0", "44.0"]


def test_a_class_that_never_occurs_is_a_dash() -> None:
    records = standard()
    without = [
        Record.model_validate(
            (fields := json.loads(r.to_json()))
            | {"result": fields["result"] | {"iou": fields["result"]["iou"] | {"bus": None}}}
        )
        for r in records
    ]
    rows = table(build(SHIFT, without), "IoU per class")
    assert {r["bus"] for r in rows} == {"–"}
    assert row(rows, "STPL")["road"] == "**49.0**"


def test_one_replicate_shows_means_alone() -> None:
    page = build(SHIFT, [r for r in standard() if r.config.seed == 0])
    stpl = row(table(page, "Results"), "STPL")
    assert (stpl["mIoU, %"], stpl["gain"], stpl["gap closed, %"]) == ("40.0", "+10.0", "25")
    assert table(page, "Paired comparisons")[0]["p"] == "–"
    assert "±" not in "".join(line for line in page.splitlines() if line.startswith("|"))


def test_provenance_says_where_the_numbers_come_from() -> None:
    records = standard()
    records[0] = make_record("source_only", 0, 30.0, code={"revision": "def456def456", "dirty": True})
    page = build(SHIFT, records)
    for text in (
        "- Runs: 14, of 2026-02-01 to 2026-02-03",
        "- Replicates: 3 (seeds 0, 1, 2)",
        f"hash `{load_shift(SHIFT).hash}`",
        "- Selection: rule `last`, 0 looks",
        "- Code: abc123abc123, def456def456 (dirty)",
        "- Versions: python 3.12.1, torch 2.14.0",
        "- Hardware: A CPU (model not recorded), 2 cores, 2 threads, device cpu, Linux",
        f"- Readout: the {load_shift(SHIFT).evaluation.readout}'s weights",
    ):
        assert text in page


def test_what_the_page_says_settings_may_see_is_what_the_harness_grants() -> None:
    assert SEES.keys() == GRANTS.keys()
    for setting, grants in GRANTS.items():
        assert ("labelled source clips" in SEES[setting]) == ("source-train/label" in grants)
        assert ("labelled target" in SEES[setting].replace("unlabelled", "")) == ("target-train/label" in grants)


def test_same_bytes_for_any_order_of_the_records() -> None:
    records = standard()
    page = build(SHIFT, records)
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert build(SHIFT, records) == page


def test_alterations_are_named_as_options() -> None:
    assert alterations(make_record("stpl", 0, 40.0).config) == ()
    altered = make_record("stpl", 0, 40.0, options={"contrast": False, "flow": "zero", "ema_decay": 0.5})
    assert alterations(altered.config) == ("contrast=false", "ema_decay=0.5", "flow=zero")


def test_a_control_without_its_method_has_no_difference() -> None:
    page = build(SHIFT, [make_record("stpl", 0, 40.0, options={"fusion": "none"})])
    (control,) = table(page, "Controls and ablations")
    assert (control["unchanged, %"], control["pairs"], control["difference"], control["p"]) == ("–", "0", "–", "–")
    assert "## Results" not in page


def test_floor_and_ceiling_of_a_replicate() -> None:
    records = standard()
    assert oracle_and_source_only(records, 1) == (32.0, 72.0)
    assert oracle_and_source_only(records, 7) == (None, None)
    altered = make_record("oracle", 7, 80.0, options={"fusion": "none"})
    assert oracle_and_source_only([*records, altered, make_record("source_only", 7, 31.0)], 7) == (31.0, None)


def test_records_of_several_processors_say_so() -> None:
    records = standard()
    assert "- Processors:" not in build(SHIFT, records)
    new = {
        "cpu": "A CPU",
        "cpu_model": "family 26, AVX512",
        "cores": 2,
        "threads": 2,
        "device": "cpu",
        "system": "Linux",
    }
    records[0] = make_record("source_only", 0, 30.0, hardware=new)
    page = build(SHIFT, records)
    assert "- Processors: 2 kinds; the same configuration scores differently on each" in page
    assert "replicates 0 have records of several, whose pairs share the worlds alone" in page
    one_model = {"digests": {"checkpoint": "0" * 64, "source_model": "1" * 64}, "source_model": "a" * 12}
    shared = [make_record(r.config.method, r.config.seed, r.result.miou, **one_model) for r in standard()[1:-2]]
    shared.append(make_record("source_only", 0, 30.0, hardware=new, **one_model))
    assert "whose pairs share the worlds and source model alone" in build(SHIFT, shared)
    other_model = {"digests": {"checkpoint": "0" * 64, "source_model": "2" * 64}}
    fused = make_record(
        "stpl", 0, 41.0, source_model="b" * 12, options={"fusion": "add"}, **other_model
    )  # of another fusion: another model, no pair
    assert "share the worlds and source model alone" in build(SHIFT, [*shared, fused])
    changed_model = make_record("ur", 0, 41.0, source_model="a" * 12, options={"fusion": "none"}, **other_model)
    assert "share the worlds alone" in build(SHIFT, [*shared, changed_model])
    drive = [make_record("stpl", 0, 40.0, shift=DRIVE), make_record("ur", 0, 40.0, shift=DRIVE, hardware=new)]
    assert "have records of several, whose pairs share the frames alone" in build(DRIVE, drive)  # there are no worlds
    assert "A CPU (family 26, AVX512), 2 cores" in page and "A CPU (model not recorded), 2 cores" in page
    records = [make_record(r.config.method, r.config.seed, r.result.miou, hardware=new) for r in standard()[:-2]]
    assert "- Processors:" not in build(SHIFT, records)
    card = new | {"device": "cuda", "gpu": "A card"}
    records = [make_record(r.config.method, r.config.seed, r.result.miou, hardware=card) for r in standard()[:-2]]
    page = build(SHIFT, records)
    assert "- Processors:" not in page and "2 cores, 2 threads, device A card, Linux" in page
    for at in (0, 1):  # of a GPU's record the processor does not matter
        hardware = card | {"cpu": "Another CPU", "gpu": ("A card", "Another card")[at]}
        records[0] = make_record("source_only", 0, 30.0, hardware=hardware)
        assert ("- Processors: 2 kinds" in build(SHIFT, records)) == bool(at)
