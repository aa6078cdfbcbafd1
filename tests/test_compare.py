"""Studies side by side, and the discovery curve and the claims in a report."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import study
from test_verify import told
from toy import toy_study

from asi_arch.archive.folder import change_settings
from asi_arch.errors import SetupError
from asi_arch.report.compare import (
    best_so_far,
    compare_table,
    draw_compare,
    group_studies,
    hours,
)
from asi_arch.report.law import LEADS, counted, draw_law, law_table, laws
from asi_arch.report.markdown import write_report
from asi_arch.report.view import View, fitness_of


def named(*views: View) -> list[tuple[str, View]]:
    return [(f"study{i}", view) for i, view in enumerate(views)]


def of(selection: str, seed: int, candidates: int = 20) -> View:
    view = study(candidates, seed)
    return replace(view, settings=replace(view.settings, selection=selection, seed=seed))


def test_repeats_are_grouped_by_what_sets_them_apart_and_not_by_their_seed() -> None:
    groups = group_studies(named(of("paper", 1), of("uct", 2), of("paper", 3)))
    assert [(g.label, len(g.views)) for g in groups] == [("selection paper", 2), ("selection uct", 1)]
    alone = group_studies(named(of("paper", 1)))
    assert [g.label for g in alone] == ["study0"]
    same = group_studies(named(of("paper", 1), of("paper", 2)))
    assert [(g.label, len(g.views)) for g in same] == [("all studies", 2)]


def test_studies_whose_fitness_means_another_thing_are_refused() -> None:
    one = of("paper", 1)
    other = replace(one, settings=replace(one.settings, stage="replicate"))
    with pytest.raises(SetupError, match=r"setting 'stage' differs.*study0 'explore', study1 'replicate'"):
        group_studies(named(one, other))
    with pytest.raises(SetupError, match="study0 has no candidate"):
        group_studies(named(study(0)))


def test_the_best_so_far_never_falls_and_compute_never_shrinks() -> None:
    view = of("paper", 4, 30)
    best = [value for value in best_so_far(view) if value is not None]
    assert best == sorted(best)
    assert best[-1] == max(fitness_of(e) for e in view.candidates() if e.fitness)
    spent = hours(view)
    assert spent == sorted(spent)
    assert len(spent) == len(view.candidates())


def test_all_are_compared_at_the_candidates_that_all_have() -> None:
    groups = group_studies(named(of("paper", 1, 30), of("uct", 2, 12)))
    table = compare_table(groups)
    assert "best fitness after 12" in table.columns
    long = groups[0].views[0]
    best = best_so_far(long)[11]
    assert table.rows[0][2] == (f"{best:.3f}" if best else "-")


def test_bands_and_labels_are_drawn_also_where_a_study_has_no_fitness(tmp_path: Path) -> None:
    failed = of("random", 5, 6)
    nothing = tuple(replace(e, fitness=None) if e.kind == "candidate" else e for e in failed.experiments)
    views = (of("paper", 1), of("paper", 2), of("uct", 3), replace(failed, experiments=nothing))
    groups = group_studies(named(*views))
    draw_compare(groups, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert compare_table(groups).rows[-1][2] == "-"


def test_the_curve_counts_leads_until_enough_are_proven(tmp_path: Path) -> None:
    view = study(60)
    what, found = counted(view)
    assert what == LEADS
    bar = max(fitness_of(e) for e in view.baselines() if e.kind == "baseline" and e.fitness)
    assert {e.id for e in found} == {e.id for e in view.candidates() if e.fitness and fitness_of(e) > bar}
    fitted = laws(view)
    assert len(found) >= 5
    assert [words for words, _ in fitted][:2] == ["candidates", "processor hours"]
    assert len(law_table(fitted).rows) == 3 * len(fitted)
    draw_law(view, fitted[0][1], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_drawn_form_ends_at_the_count_that_it_expects() -> None:
    from asi_arch.report.law import _means

    [(_, law), *_] = laws(study(60))
    edges = [0.0, 0.5, 1.0]
    for f in law.forms:
        assert sum(_means(f, law.curve.edges[-1], edges)) == pytest.approx(law.curve.total, rel=0.05)


def test_a_report_tells_of_claims_once_there_are_reruns(tmp_path: Path) -> None:
    view = study(20)
    assert "## Claims" not in write_report(view, tmp_path).read_text()
    known = told({1: 0.5, 2: 0.45, 5: 0.46, 6: 0.30}, claims={1: 0.5, 2: 0.45, 6: 0.3})
    text = write_report(replace(view, replication=known), tmp_path).read_text()
    section = text[text.index("## Claims") : text.index("## Best so far")]
    assert "discovery" in section
    assert "- #6 n6: discovery;" in section
    assert "#5" in section[section.index("fell back when") :]


def test_a_study_that_is_named_twice_is_refused_and_what_verifying_sets_splits_no_repeats(
    tmp_path: Path,
) -> None:
    for seed in (0, 1):
        opened = toy_study(tmp_path / f"s{seed}", experiments=4, seed=seed)
        opened.run()
        opened.close()
    change_settings(tmp_path / "s0", {"leads": 40, "claim_seeds": 3})
    command = [sys.executable, "-m", "asi_arch", "compare"]
    out = ["--out", str(tmp_path / "compare.png")]
    twice = subprocess.run([*command, str(tmp_path / "s0"), str(tmp_path / "x" / ".." / "s0"), *out],
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert (twice.returncode, twice.stderr.count("\n")) == (2, 1)
    assert "named twice" in twice.stderr
    wide = os.environ | {"COLUMNS": "200"}
    both = subprocess.run([*command, str(tmp_path / "s0"), str(tmp_path / "s1"), *out],
                          capture_output=True, text=True, check=False, env=wide)  # fmt: skip
    assert both.returncode == 0
    assert re.search(r"all studies +2 ", both.stdout)
