from orchestrator.stopping.rules import RULES, Never


def test_every_type_of_early_termination_has_a_rule():
    assert set(RULES) == {"none"}


def test_never_ends_no_trial():
    assert not Never().ends("a", 3, {"selection_top1": 0.0})
