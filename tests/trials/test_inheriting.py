from __future__ import annotations

import pytest

from velodrome.trials.inheriting import apply_changes, check_changes


def test_every_optimizer_in_a_state_gets_the_new_values() -> None:
    state = {
        "nets": [{"optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "momentum": 0.9}, {"lr": 0.5}]}}],
        "other": {"param_groups": [{"lr": 0.05, "initial_lr": 0.1}]}, "lr": 0.1,
    }
    apply_changes(state, {"lr": [0.1, 0.2], "optimizer.momentum": [0.9, 0.7], "act": ["relu", "gelu"]})
    assert state == {
        "nets": [{"optimizer": {"state": {}, "param_groups": [{"lr": 0.2, "momentum": 0.7}, {"lr": 0.5}]}}],
        "other": {"param_groups": [{"lr": 0.1, "initial_lr": 0.2}]}, "lr": 0.1,
    }
    check_changes(state, {"optimizer.momentum": [0.9, 0.7]})


@pytest.mark.parametrize("group", [{"lr": 0.1}, {"lr": 0.03, "initial_lr": 0.1}])
def test_an_old_value_that_comes_back_is_noticed(group: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lr is 0\.1, that of the trial that this one began from"):
        check_changes({"optimizer": {"param_groups": [group]}}, {"lr": (0.1, 0.2)})
    check_changes({"optimizer": {"param_groups": [group]}}, {"lr": (0.1, 0.1)})
    check_changes([1.0, None, "x", {"param_groups": 3}], {"lr": (0.1, 0.2)})
