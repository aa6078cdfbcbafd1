"""The report: tables that read raw, figures that draw at any size, labels that do not overlap."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import SPACE, study

from asi_arch.records import Evidence, Experiment, Metric, Proposal
from asi_arch.report.canvas import spread_out
from asi_arch.report.markdown import summary, write_report
from asi_arch.report.plots import unbeaten
from asi_arch.report.tables import Table, duration, figure, leaderboard, noise_table, runs_table
from asi_arch.report.tree import BROOD, Layout, lay_out
from asi_arch.report.view import View, fitness_of


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_a_report_has_a_page_and_every_figure_that_the_page_shows(tmp_path):
    page = write_report(study(20), tmp_path / "new" / "folder")
    text = page.read_text()
    shown = {line.split("(")[-1].rstrip(")") for line in text.splitlines() if line.startswith("![")}
    names = ("progress", "tree", "curves", "tasks", "discovery_curve", "provenance")
    assert shown == {f"{name}.png" for name in names}
    for name in shown:
        assert min(png_size(page.parent / name)) > 400
    assert "### #20 token_shift_20" in text
    assert "leads, not discoveries" in text


@pytest.mark.parametrize("count", [0, 1])
def test_a_report_of_a_study_that_has_hardly_begun_is_still_a_report(tmp_path, count):
    view = study(0)
    page = write_report(replace(view, experiments=view.experiments[:count]), tmp_path)
    assert "No candidate has ended yet." in page.read_text()


def test_a_report_of_a_space_with_one_other_metric_needs_no_second_task(tmp_path):
    metric = replace(SPACE.metrics[0], name="taste", title="taste", unit="stars", higher_is_better=True)
    space = replace(SPACE, metrics=(metric,))
    view = study(5)
    experiments = tuple(
        replace(e, evidence=tuple(_tasted(run) for run in e.evidence)) for e in view.experiments
    )
    text = write_report(
        View(space=space, settings=view.settings, experiments=experiments), tmp_path
    ).read_text()
    assert "taste stars ↑" in text
    assert "tasks.png" not in text
    assert not (tmp_path / "tasks.png").exists()


def _tasted(run: Evidence) -> Evidence:
    metrics = {"taste": Metric(value=1.5, standard_error=0.1)} if run.metrics else {}
    return replace(run, metrics=metrics)


def test_the_leaderboard_ranks_all_baselines_among_the_best_candidates():
    view = study(20)
    table = leaderboard(view, best=4, full=False)
    fitness = [float(row[3]) for row in table.rows]
    assert fitness == sorted(fitness, reverse=True)
    kinds = [row[2] for row in table.rows]
    assert (kinds.count("candidate"), kinds.count("baseline"), kinds.count("seed")) == (4, 6, 1)
    assert table.marked == {i for i, kind in enumerate(kinds) if kind == "candidate"}


def test_every_gain_has_the_seeds_noise_beside_it_and_the_seeds_own_is_zero():
    table = leaderboard(study(3), best=3, full=True)
    seed = next(row for row in table.rows if row[2] == "seed")
    gains = [i for i, column in enumerate(table.columns) if column.startswith("gain")]
    assert len(gains) == 2
    assert all(seed[i].startswith("+0.000 ±0.0") for i in gains)
    assert all("±" in row[i] for row in table.rows for i in gains)


def test_a_reference_that_failed_stands_last_without_figures():
    view = study(1)
    proposal = Proposal(name="softmax_attention", motivation="", source="s", author="baseline")
    failed = Experiment(id=99, kind="reference", status="failed", proposal=proposal)
    table = leaderboard(replace(view, experiments=(*view.experiments, failed)), best=3, full=False)
    assert table.rows[-1][:5] == ("#99", "softmax_attention", "reference", "failed", "-")


def test_a_markdown_table_lines_up_when_read_raw():
    text = Table(columns=("name", "x"), rows=(("a", "1"), ("longer", "23.5"))).to_markdown()
    assert text == "| name   |    x |\n| ------ | ---: |\n| a      |    1 |\n| longer | 23.5 |\n"


def test_noise_and_runs_tables_say_how_many_runs_they_rest_on():
    view = study(0)
    noise = noise_table(view)
    assert noise.columns[1] == "seed's mean of 3"
    assert noise.rows[0][0] == "text"
    assert noise.rows[0][3] == "0.037"
    runs = runs_table({"delta_net": view.seed_runs(), "none": ()}, SPACE.metrics)
    assert runs.rows[0][1] == "3"
    assert "±" in runs.rows[0][2]
    assert runs.rows[1] == ("none", "0", "-", "-", "-", "-", "-")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (131_216, "131.2k"), (2.8723, "2.872"), (0.0042, "0.0042"), (0, "0"), (1234.5, "1234"),
     (3.1e6, "3.1M"), (2.5e9, "2.5G"), (-0.25, "-0.250")],
)  # fmt: skip
def test_figures_are_short(value, shown):
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (59.6, "60 s"), (600, "10 min"), (11_100, "3 h 05 min")]
)
def test_durations_are_words(seconds, shown):
    assert duration(seconds) == shown


def test_the_summary_names_the_best_candidate_and_the_best_baseline():
    view = study(20)
    best = max((e for e in view.candidates() if e.fitness), key=fitness_of)
    text = summary(view)
    assert text.startswith("20 candidates ended, 3 of them failed")
    assert f"#{best.id} " in text
    assert "the best baseline is gated_delta_net" in text


def cells_and_rows(layout: Layout) -> tuple[list[tuple[int, int]], int]:
    return list(layout.cells.values()), layout.rows


@pytest.mark.parametrize("count", [0, 20, 200])
def test_every_experiment_has_its_own_place_in_the_tree(count):
    view = study(count)
    cells, rows = cells_and_rows(lay_out(view.experiments))
    assert len(set(cells)) == len(cells) == len(view.experiments)
    assert max(row for _, row in cells) == rows - 1
    assert rows <= len(view.experiments)


def test_children_stand_to_the_right_of_their_parent_and_not_above_it():
    view = study(60)
    layout = lay_out(view.experiments)
    for e in view.experiments:
        for parent in (e.proposal.parents if e.proposal else ())[:1]:
            assert layout.cells[e.id][0] > layout.cells[parent][0]
            assert layout.cells[e.id][1] >= layout.cells[parent][1]


def test_no_line_of_the_tree_crosses_a_cell_of_another():
    layout = lay_out(study(120).experiments)
    cells = set(layout.cells.values())
    for (column, row), (child_column, child_row) in layout.links:
        passed = {(column, r) for r in range(row + 1, child_row + 1)}
        passed |= {(c, child_row) for c in range(column + 1, child_column)}
        assert not passed & cells


def test_a_line_of_a_thousand_generations_can_be_laid_out():
    proposals = [
        Proposal(name="x", motivation="", source="s", author="person", parents=(i - 1,) if i > 1 else ())
        for i in range(1, 1002)
    ]
    chain = [
        Experiment(id=i, kind="candidate", status="finished", proposal=p) for i, p in enumerate(proposals, 1)
    ]
    layout = lay_out(chain)
    assert layout.cells[1001] == (1000, 0)


def test_a_large_brood_breaks_into_rows():
    seed = Proposal(name="seed", motivation="", source="s", author="baseline")
    child = replace(seed, parents=(1,))
    many = [
        Experiment(id=i, kind="candidate", status="finished", proposal=child if i > 1 else seed)
        for i in range(1, 2 * BROOD + 3)
    ]
    layout = lay_out(many)
    assert layout.rows == 3
    assert layout.broods == [((1, 0), BROOD, 3, (0, 0))]


def test_spread_labels_keep_their_order_and_their_distance():
    wanted = [5.0, 5.1, 5.2, 50.0, 0.0, 99.0]
    placed = spread_out(wanted, 10, 0, 100)
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    assert sorted(range(len(placed)), key=placed.__getitem__) == order
    assert all(b - a >= 10 - 1e-9 for a, b in itertools.pairwise(sorted(placed)))
    assert min(placed) >= 0
    assert max(placed) <= 100
    assert spread_out([10.0, 50.0], 10, 0, 100) == [10.0, 50.0]


def test_only_points_that_nothing_beats_on_both_metrics_are_unbeaten():
    across, up = SPACE.metrics
    points = [(1.0, 5.0), (2.0, 2.0), (3.0, 3.0), (4.0, 1.0), (2.0, 4.0)]
    assert unbeaten(points, across, up) == [(1.0, 5.0), (2.0, 2.0), (4.0, 1.0)]
    more = replace(up, higher_is_better=True)
    assert unbeaten(points, across, more) == [(1.0, 5.0)]
