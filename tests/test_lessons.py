"""What a study's repeated runs have shown becomes knowledge of its own, and what has not does not."""

import random
import threading
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from synthetic import SPACE, evidence
from synthetic import study as dice_study
from toy import toy_study

from asi_arch.commands.lessons import learned, lessons
from asi_arch.errors import SetupError
from asi_arch.loop.verify import Verifier, Watcher, replication_of
from asi_arch.records import Experiment, Job


def repeated(number: int, text: float, recall: float, runs: int = 3, parent: int = 1) -> Experiment:
    """A child with runs around these scores; the noise is that of the dice."""
    dice = random.Random(number)
    view = dice_study(12)
    known = next(e for e in view.experiments if e.kind == "candidate" and e.fitness)
    assert known.proposal is not None
    found = [
        evidence(text + dice.gauss(0, 0.02), recall + dice.gauss(0, 0.02), seed=i, source=f"s{number}")
        for i in range(runs)
    ]
    proposal = replace(
        known.proposal,
        name=f"design_{number}",
        motivation="Forget less.",
        parents=(parent,) if parent else (),
        moves=("scalar_decay",),
    )
    return replace(known, id=number, proposal=proposal, evidence=tuple(found))


def test_a_gain_beyond_the_noise_is_a_lesson_with_its_experiments_as_source():
    family = [repeated(1, 2.87, 0.5, parent=0), repeated(2, 2.60, 0.5), repeated(3, 2.87, 0.5)]
    found = lessons(SPACE, family, 2026)
    assert found is not None
    (lesson,) = found
    assert lesson.id == "lesson-2-explore/1"
    assert (lesson.checked, lesson.source) == (True, "experiments 2 and 1 of this study at explore")
    assert lesson.title == "Measured here: design_2 against its parent is better text"
    assert lesson.trigger.startswith("weak text in a design such as design_1 (#1), and scalar decay")
    assert "means of 3 and 3 runs: text better by 0.2" in lesson.effect
    assert "recall not distinguishable" in lesson.effect
    assert "Forget less." in lesson.background


def test_a_loss_is_a_lesson_too():
    found = lessons(SPACE, [repeated(1, 2.6, 0.5, parent=0), repeated(2, 2.6, 2.5)], 2026)
    assert found is not None
    assert "is worse recall" in found[0].title


def test_too_few_runs_teach_nothing():
    assert lessons(SPACE, [repeated(1, 2.6, 0.5, parent=0), repeated(2, 1.0, 0.1, runs=2)], 2026) is None
    assert lessons(SPACE, dice_study(12).experiments, 2026) is None


def test_where_nothing_differs_false_lessons_are_rare():
    false = 0
    for trial in range(40):
        family = [repeated(1000 * trial + 1, 2.6, 0.5, parent=0)]
        family += [repeated(1000 * trial + n, 2.6, 0.5, parent=family[0].id) for n in range(2, 8)]
        found = lessons(SPACE, family, 2026)
        assert found is not None
        false += bool(found)
    assert false <= 6  # 40 families at a rate of 0.05: more than 6 have a chance of 0.003


def test_a_study_writes_its_lessons_where_it_recalls_them_and_withdraws_what_no_longer_holds(tmp_path: Path):
    study = toy_study(tmp_path / "s", experiments=4, selection="paper")
    study.run()
    with pytest.raises(SetupError, match="has no experiment with 3 runs at a stage that can be compared"):
        learned(tmp_path / "s")
    candidate = max(study.archive.experiments("candidate"), key=lambda e: e.fitness.value if e.fitness else 0)
    assert candidate.proposal is not None
    stage, source = study.bench.stage, candidate.proposal.source
    jobs = [Job(space="toy", name="again", source=source, stage=stage, seed=seed) for seed in (1, 2)]
    runs = (*candidate.evidence, *(study.pool.run(job, lambda _: None) for job in jobs))
    number = study.archive.claim("candidate")
    assert number is not None
    assert study.archive.record(replace(candidate, id=number, evidence=runs))
    stale = tmp_path / "s" / "cognition" / "lesson-99-explore.toml"
    stale.parent.mkdir()
    stale.write_text("no longer")
    kept, withdrawn = learned(tmp_path / "s")
    assert withdrawn == [stale]
    assert not stale.exists()
    assert kept
    ids = {cognition.id for cognition in study.cognition.all()}
    assert {f"{path.stem}/1" for path in kept} <= ids
    first = study.cognition.get(f"{kept[0].stem}/1")
    assert first is not None
    assert first.checked
    assert first.paper.label == f"'{kept[0].stem}'"
    assert learned(tmp_path / "s") == (kept, [])
    study.close()


def test_a_lead_that_was_replicated_is_a_lesson_by_its_fresh_runs_on_validation_alone(tmp_path: Path):
    study = toy_study(tmp_path / "s", experiments=30, cold_start=8)
    study.run()
    Verifier(study.bench, 1).verify(Watcher(), threading.Event())
    kept, _ = learned(tmp_path / "s")
    known = replication_of(study.bench)
    assert known.claims
    assert kept
    assert {path.stem for path in kept} <= {f"lesson-{e.id}-explore" for e in known.leads}
    first = study.cognition.get(f"{kept[0].stem}/1")
    assert first is not None
    assert "against baseline parabola is" in first.title
    assert "At explore, means of 2 and 2 runs" in first.effect
    assert "The author's reason, for changing #" in first.background
    id = int(kept[0].stem.split("-")[1])
    own, rival = (known.evidence(e, "screen") for e in (id, 2))
    gain = mean(r.metrics["inside"].value for r in rival) - mean(r.metrics["inside"].value for r in own)
    assert f"error inside better by {gain:.3g} " in first.effect
    study.close()
