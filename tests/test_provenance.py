"""Where the parts of a design came from: noted at the draw, told by rule, counted, and drawn."""

import hashlib
import random
from collections import Counter
from dataclasses import replace

import pytest
from synthetic import study
from test_researcher import LETTERS, ROOT, WORDS, brief, cognition, ended
from toy import toy_study

from asi_arch.analyst.provenance import (
    LEAST,
    apart,
    attribute,
    known_attribution,
    payoffs,
    shares,
)
from asi_arch.errors import SetupError
from asi_arch.provenance import ORIGINS, Attribution
from asi_arch.records import Experiment, Failure, Trial, from_json, to_json
from asi_arch.report.markdown import write_report
from asi_arch.report.provenance import leads_and_rest
from asi_arch.report.story import tell

PAYS = tuple(Trial(moves=("add_c",), gain=0.5) for _ in range(30))
KNOWN = (cognition("a"), cognition("a", 2), cognition("b"))


def drawn(**values):
    """The proposals of 200 ids, from one brief but for the id."""
    base = replace(brief([ROOT]), **values)
    return {id: WORDS.propose(replace(base, id=id)) for id in range(200)}


def count(proposals):
    return Counter((one.component, one.origin) for p in proposals.values() for one in p.origins)


# What decided a draw


def test_noting_what_decided_changes_no_proposal():
    """The hash is of what the researcher drew before anything was noted."""
    one = ended(3, 'WORD = "kl"\n')
    trials = (*PAYS[:4], Trial(moves=("add_d", "add_e"), gain=-0.1), Trial(moves=("add_f",), gain=None))
    proposals = drawn(cognitions=KNOWN, trials=trials, references=(one,))
    told = repr([(p.source, p.moves, p.motivation, p.references, p.cognitions) for p in proposals.values()])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "b82972b21ee164d2"


def test_every_move_has_one_origin_in_the_order_of_the_moves():
    for proposal in drawn(cognitions=KNOWN, trials=PAYS).values():
        assert tuple(one.component for one in proposal.origins) == proposal.moves
        assert all(one.basis == "drawn" and one.reason for one in proposal.origins)


def test_chance_alone_is_no_cognition_and_no_analysis():
    assert {origin for _, origin in count(drawn())} == {"original"}


def test_a_move_is_from_a_cognition_only_if_without_it_the_draw_had_not_made_it():
    backed, alone = drawn(cognitions=KNOWN), drawn()
    decided = {
        (id, one.component): one for id, p in backed.items() for one in p.origins if one.origin == "cognition"
    }
    assert {name for _, name in decided} == {"add_a", "add_b"}
    assert len(decided) > 5
    for (id, name), one in decided.items():
        assert name not in alone[id].moves
        assert one.cognitions == (("a/1", "a/2") if name == "add_a" else ("b/1",))
    spoken = [one for p in backed.values() for one in p.origins if "did not decide" in one.reason]
    assert spoken
    assert {one.origin for one in spoken} == {"original"}
    for id, proposal in backed.items():
        for one in proposal.origins:
            if one.component in ("add_a", "add_b") and one.origin == "original":
                assert one.component in alone[id].moves


def test_of_a_papers_cognitions_those_that_name_the_move_are_told():
    naming = replace(KNOWN[1], moves=("add_a",))
    proposals = drawn(cognitions=(KNOWN[0], naming))
    told = {one.cognitions for p in proposals.values() for one in p.origins if one.origin == "cognition"}
    assert told == {("a/2",)}


def test_a_cognition_backs_the_moves_that_it_names_whatever_paper_it_is_of():
    naming = replace(cognition("z"), moves=("add_d",))
    backed, alone = drawn(cognitions=(naming, cognition("d"))), drawn()
    decided = [(id, one) for id, p in backed.items() for one in p.origins if one.origin == "cognition"]
    assert len(decided) > 3
    assert {(one.component, one.cognitions) for _, one in decided} == {("add_d", ("z/1",))}
    assert all("add_d" not in alone[id].moves for id, _ in decided)
    for proposal in backed.values():
        assert proposal.cognitions == (("z/1",) if "add_d" in proposal.moves else ())


def test_a_cognition_that_names_moves_backs_no_other_move_of_its_paper():
    proposals = drawn(cognitions=(replace(cognition("d"), moves=("add_e",)),))
    decided = [one for p in proposals.values() for one in p.origins if one.origin == "cognition"]
    assert {one.component for one in decided} == {"add_e"}
    assert all(not p.cognitions for p in proposals.values() if "add_e" not in p.moves)


def test_a_move_that_paid_is_from_analysis_with_its_record():
    found = count(drawn(trials=PAYS))
    paid = found["add_c", "analysis"]
    assert paid > 100
    assert paid > 3 * found["add_c", "original"] > 0
    reasons = {
        one.reason for p in drawn(trials=PAYS).values() for one in p.origins if one.component == "add_c"
    }
    assert any("30 trials with a mean gain of +0.500" in reason for reason in reasons)


def test_a_part_of_another_experiment_is_from_analysis_and_names_it():
    one = ended(3, 'WORD = "kl"\n')
    taken = [
        origin
        for p in drawn(references=(one,)).values()
        for origin in p.origins
        if origin.component == "take_letters"
    ]
    assert taken
    assert {(t.origin, t.experiments) for t in taken} == {("analysis", (3,))}


def test_moves_that_stagnation_left_open_are_from_analysis():
    trials = tuple(Trial(moves=(f"add_{c}",), gain=-0.1) for c in LETTERS[:3])
    assert {origin for _, origin in count(drawn(trials=trials, orthogonal=True))} == {"analysis"}


# By rule, of what an author states


def stated(motivation="The parent is weak.", **values):
    experiment = ended(9, '"""Two decay rates."""\nx = 1\n', parents=(4,))
    proposal = replace(experiment.proposal, motivation=motivation, author="model", **values)
    return replace(experiment, proposal=proposal)


@pytest.mark.parametrize(
    ("values", "origin", "cognitions", "experiments"),
    [
        ({"cognitions": ("2412.06464/1",)}, "cognition", ("2412.06464/1",), ()),
        ({"motivation": "As #7 and experiment 8 showed."}, "analysis", (), (7, 8)),
        ({"motivation": "Parent #4 forgets; this is #9."}, "original", (), ()),
        ({"motivation": "It has 3 heads."}, "original", (), ()),
    ],
)
def test_a_design_without_moves_is_what_its_author_states(values, origin, cognitions, experiments):
    [one] = attribute(stated(**values))
    assert (one.component, one.basis) == ("Two decay rates", "stated")
    assert (one.origin, one.cognitions, one.experiments) == (origin, cognitions, experiments)


def test_what_has_no_design_of_its_own_or_no_noted_cause_has_no_attribution():
    repeat = Failure(phase="novelty", kind="duplicate", message="known")
    assert attribute(replace(stated(), failure=repeat)) == ()
    assert attribute(replace(stated(), kind="baseline")) == ()
    assert attribute(replace(stated(), proposal=None)) == ()
    assert attribute(stated(moves=("add_a",))) == ()  # of an archive from before causes were noted


def test_records_from_before_there_was_an_attribution_are_read():
    new = replace(stated(), attribution=attribute(stated()))
    assert from_json(Experiment, to_json(new)) == new
    old = to_json(stated()).replace(',"attribution":[]', "").replace(',"origins":[]', "")
    assert "attribution" not in old
    assert "origins" not in old
    assert from_json(Experiment, old) == stated()
    assert known_attribution(from_json(Experiment, old)) == new.attribution


# Shares and payoffs


def attributed(id, *origins):
    found = tuple(
        Attribution(component=f"part {i}", origin=origin, basis="drawn", reason="so")
        for i, origin in enumerate(origins)
    )
    return replace(ended(id, f"x = {id}\n", parents=(0,)), attribution=found)


def test_shares_count_components_and_their_interval_counts_designs():
    group = [attributed(1, "cognition", "original"), attributed(2, "cognition"), attributed(3, "analysis")]
    cognition_, analysis, original = shares(group)
    assert [(s.count, s.components, s.designs) for s in shares(group)] == [(2, 4, 3), (1, 4, 3), (1, 4, 3)]
    assert cognition_.value == 0.5
    # Wilson's interval of 1.5 of 3, by its formula in another form: (p + z^2/2n +- z r) / (1 + z^2/n)
    z2 = 1.959963984540054**2
    reach = (z2 * (0.25 / 3 + z2 / 36)) ** 0.5 / (1 + z2 / 3)
    assert (cognition_.low, cognition_.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert 0 < analysis.low < 0.25 < analysis.high < 1
    assert original.value == 0.25


def test_components_of_one_design_do_not_narrow_the_interval():
    few = shares([attributed(1, "cognition"), attributed(2, "original")])[0]
    many = shares([attributed(1, *["cognition"] * 9), attributed(2, *["original"] * 9)])[0]
    assert (few.low, few.high) == (many.low, many.high)


def test_shares_of_nothing_say_nothing():
    assert [(s.value, s.low, s.high) for s in shares([])] == [(0.0, 0.0, 1.0)] * 3


def test_a_difference_of_shares_is_newcombes():
    """The published example: 56 of 70 against 48 of 80 is 0.2, from 0.0524 to 0.3339 (method 10)."""
    one = shares([attributed(i, "cognition" if i < 56 else "original") for i in range(70)])[0]
    other = shares([attributed(i, "cognition" if i < 48 else "original") for i in range(80)])[0]
    assert apart(one, other) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def using(id, value, *cognitions, status="finished"):
    made = ended(id, f"x = {id}\n", value, parents=(0,))
    made = replace(made, proposal=replace(made.proposal, cognitions=cognitions))
    return made if status == "finished" else replace(made, status="failed", fitness=None)


def test_a_payoff_is_the_mean_gain_with_its_n_and_an_interval_from_three_on():
    tried = [using(i, value, "a/1") for i, value in enumerate((0.6, 0.7, 0.5), 1)]
    tried += [using(4, 0.9, "b/1"), using(5, 0.2), using(6, 0.0, "a/1", status="failed")]
    all_, none, a, b = payoffs([ROOT, *tried])
    assert (a.cognition, a.experiments, a.unmeasured) == ("a/1", (1, 2, 3), (6,))
    assert a.mean == pytest.approx(0.1)
    students = 4.302652729911275 * 0.1 / 3**0.5  # of these three alone
    assert a.high - a.mean == pytest.approx(a.mean - a.low)
    assert 0.3 * students < a.high - a.mean < 1.5 * students
    assert (b.cognition, b.mean, b.low) == ("b/1", pytest.approx(0.4), None)
    assert len(b.experiments) < LEAST
    assert (none.experiments, none.mean) == ((5,), pytest.approx(-0.3))
    assert (len(all_.experiments), len(all_.unmeasured)) == (5, 1)


def test_intervals_of_gains_hold_the_truth_as_often_as_they_say():
    """Cognitions that do nothing, in studies of 3 to 8 experiments each: 0 lies in 95 % of the intervals."""
    dice, held = random.Random(0), []
    for _ in range(40):
        tried, sizes = [], [3, 3, 4, 5, 6, 8]
        for number, size in enumerate(sizes):
            for _ in range(size):
                tried.append(using(len(tried) + 1, 0.5 + dice.gauss(0, 0.05), f"{number}/1"))
        held += [p.low < 0 < p.high for p in payoffs([ROOT, *tried])[2:]]
    assert len(held) == 240
    assert 0.91 < sum(held) / len(held) < 0.985


def test_gains_that_do_not_differ_have_no_interval():
    found = payoffs([ROOT, *(using(i, 0.6, "a/1") for i in range(1, 5))])
    assert [p.low for p in found] == [None] * 3


def test_a_payoff_tells_how_often_the_cognition_decided():
    decided = Attribution(
        component="add_a", origin="cognition", basis="drawn", reason="so", cognitions=("a/1",)
    )
    first = replace(using(1, 0.6, "a/1"), attribution=(decided,))
    by_name = {p.cognition: p for p in payoffs([ROOT, first, using(2, 0.6, "a/1")])}
    assert (by_name["a/1"].decided, by_name["a/1"].told) == (2, 2)  # the second is by what its author states
    older = replace(first, attribution=(), proposal=replace(first.proposal, moves=("add_a",)))
    [all_, _, one] = payoffs([ROOT, older])
    assert (one.cognition, one.decided, one.told) == ("a/1", 0, 0)
    assert all_.mean == pytest.approx(0.1)


# The report


def a_view(count=60):
    """A study of dice, in which every candidate has causes and some rest on cognitions."""
    view, dice = study(count), random.Random(1)
    found = []
    for e in view.experiments:
        if e.kind == "candidate":
            chosen = [dice.choice(ORIGINS) for _ in e.proposal.moves]
            ids = tuple(
                dict.fromkeys(f"2401.{dice.randrange(12):05}/1" for origin in chosen if origin == "cognition")
            )
            noted = tuple(
                Attribution(
                    component=move,
                    origin=origin,
                    basis="drawn",
                    reason="so it was",
                    cognitions=ids[:1] if origin == "cognition" else (),
                )
                for move, origin in zip(e.proposal.moves, chosen, strict=True)
            )
            proposal = replace(e.proposal, origins=noted, cognitions=ids)
            e = replace(e, proposal=proposal, attribution=noted)
        found.append(e)
    return replace(view, experiments=tuple(found))


def test_leads_are_above_the_best_baseline_and_the_rest_are_all_others_with_a_design():
    view = a_view()
    rival = max(e.fitness.value for e in view.baselines() if e.kind == "baseline")
    leads, rest = leads_and_rest(view)
    assert leads
    assert min(e.fitness.value for e in leads) > rival
    assert max(e.fitness.value for e in rest if e.fitness) <= rival
    assert any(e.status == "failed" for e in rest)
    assert len(leads) + len(rest) == 60
    unproposed = replace(rest[0], failure=Failure(phase="author", kind="silent", message="no answer"))
    others = tuple(unproposed if e.id == unproposed.id else e for e in view.experiments)
    assert len(leads_and_rest(replace(view, experiments=others))[1]) == len(rest) - 1


def test_the_report_tells_shares_and_gains_with_their_counts(tmp_path):
    view = a_view()
    text = write_report(view, tmp_path).read_text()
    leads, rest = leads_and_rest(view)
    components = sum(len(e.attribution) for e in leads)
    assert f"leads: {components} components of {len(leads)} designs" in text
    assert f"Leads are the {len(leads)} candidates above the best baseline; the rest, {len(rest)}," in text
    assert "are left out" not in text
    for payoff in payoffs(view.experiments)[2:]:
        [row] = [line for line in text.splitlines() if line.startswith(f"| {payoff.cognition}")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:3] == [str(len(payoff.experiments)), str(len(payoff.unmeasured))]
        assert cells[3] == (f"{payoff.mean:+.3f}" if payoff.experiments else "-")
        assert (cells[4] == "-") == (len(payoff.experiments) < LEAST)
    assert (tmp_path / "provenance.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_designs_of_unknown_origin_are_counted_and_not_guessed(tmp_path):
    text = write_report(study(20), tmp_path).read_text()
    assert "20 designs are left out, of which nobody noted where they came from." in text
    assert "leads: 0 components of 0 designs" in text
    assert "No cognition has so many" in text


def test_the_story_of_an_experiment_says_where_it_came_from_and_who_says_so():
    view = a_view()
    one = view.candidates()[3]
    [part] = [part for part in tell(view, one) if part.title == "where it came from"]
    rows = [(row[1], row[4]) for row in part.body.rows]
    assert rows == [(a.origin, "noted as the move was drawn") for a in one.attribution]
    baseline = view.baselines()[0]
    assert not [part for part in tell(view, baseline) if part.title == "where it came from"]


def test_a_study_records_what_was_noted_at_its_draws(tmp_path):
    toy = toy_study(tmp_path / "study", experiments=8)
    toy.run()
    for e in toy.archive.experiments():
        assert e.attribution == (e.proposal.origins if e.kind == "candidate" else ())
        assert bool(e.attribution) == (e.kind == "candidate")
    toy.close()


def test_a_person_names_the_cognitions_that_a_design_rests_on(tmp_path):
    toy = toy_study(tmp_path / "study", experiments=1)
    source = 'RULE = {"terms": [{"kind": "wave", "frequency": 3.0, "phase": 0.0}]}\n'
    with pytest.raises(SetupError, match=r"no cognition '2006\.08195/7'"):
        toy.submit("wave", source, "It waves.", ["2006.08195/7"])
    id = toy.submit("wave", source, "It waves.", ["2006.08195/1", "2006.08195/1"])
    toy.run()
    found = toy.archive.get(id)
    assert found.proposal.cognitions == ("2006.08195/1",)
    assert [(one.origin, one.basis, one.cognitions) for one in found.attribution] == [
        ("cognition", "stated", ("2006.08195/1",))
    ]
    toy.close()
