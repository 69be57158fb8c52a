"""A study over architectures, from its first trial to the file that stands alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from torch import nn

import velodrome as velo
from velodrome.cli.main import cli
from velodrome.errors import UsageError
from velodrome.trials.fused.alone import Alone
from velodrome.trials.fused.member import Member

EXAMPLE = Path(__file__).parents[3] / "examples" / "fused_architecture.py"
PARETO = """
import velodrome as velo

SPACE = velo.Space(net=velo.Net((4,), velo.Repeat(velo.Block("dense", width=velo.Int(2, 32)), times=velo.Int(1, 3))))

@velo.objective(SPACE, goal="maximize accuracy, minimize params")
def train(trial):
    total = SPACE.graph(trial.params).total()
    return {"accuracy": total.params / (total.params + 50), "params": total.params, "flops": total.flops}
"""


def module_of(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example() -> Any:
    return module_of(EXAMPLE)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> velo.Study:
    """A small search on digits: the first dozen at random, the second by what is known then."""
    return velo.sweep(
        str(EXAMPLE), trials=24, workers=1, threads=1, fuse=12, sampler="predictor:start=12,candidates=30", seed=1,
        store=tmp_path_factory.mktemp("digits") / "velodrome.db", progress=False,
    )


def test_the_winner_is_better_than_a_net_written_by_hand(digits: velo.Study, example: Any) -> None:
    class ByHand(example.Digits):  # type: ignore[misc]  # a module that is loaded by its path
        def model(self, params: Any) -> nn.Module:
            return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    accuracies = []
    for lr in (0.003, 0.01):
        alone = Alone(ByHand(), Member(0, {"lr": lr}, 0), "cpu")
        while not alone.is_done:
            alone.advance()
        accuracies.append(alone.evaluate()["accuracy"])
    assert digits.best.metrics["accuracy"] > max(accuracies) > 0.95
    assert len(digits.trials) == 24
    assert all(digits.space.graph(trial.params).total().params < 30000 for trial in digits.trials)


def test_nets_of_one_structure_are_trained_as_one_model(digits: velo.Study) -> None:
    rows = digits.query("select trial_id % 1000000000 as number, reason from decisions where decided_by = 'fusion' "
                        "and action = 'group' and study_id = :study_id")
    assert {row["number"] for row in rows} == set(range(24)), "each trial says in which group it was"
    groups: dict[str, set[tuple[Any, ...]]] = {}
    for row in rows:
        params, group = digits.trials[row["number"]].params, row["reason"].partition(":")[0]
        groups.setdefault(group, set()).add(tuple(v for k, v in params.items() if k != "lr" and "width" not in k))
    assert all(len(structures) == 1 for structures in groups.values())
    together = [row for row in rows if "with 0 other" not in row["reason"]]
    assert len(together) >= 12
    shown = run("show", digits.name, str(together[0]["number"]), "--store", str(digits.store)).stdout
    assert together[0]["reason"] in shown


def test_the_best_trial_builds_with_its_weights(digits: velo.Study, example: Any, tmp_path: Path) -> None:
    net = digits.best.build().eval()
    x, y = example.Digits().data().validation
    assert (net(x).argmax(1) == y).double().mean().item() == pytest.approx(digits.best.value)
    other = next(trial for trial in digits.trials if trial.number != digits.best.number)
    with pytest.raises(velo.VeloError, match="has no checkpoint"):
        other.build()
    assert other.build(weights=False)(x).shape == (len(x), 10)


def run(*args: str, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, args, prog_name="velo")
    assert result.exit_code == status, result.output
    return result


def test_show_draws_and_exports(digits: velo.Study, tmp_path: Path) -> None:
    store, svg, python = str(digits.store), tmp_path / "net.svg", tmp_path / "net.py"
    text = run("show", digits.name, "--architecture", "--store", store).stdout
    size = digits.space.graph(digits.best.params).total().params
    assert text.startswith(f"net of trial {digits.best.number}: {size:,} parameters")
    assert "net.body" in text
    data = json.loads(run("show", digits.name, "3", "--architecture", "--json", "--store", store).stdout)
    assert data["nets"]["net"][0] == {"node": "input", "op": "input", "settings": {}, "reads": [],
                                      "shape": [64], "params": 0, "flops": 0}
    run("show", digits.name, "--svg", str(svg), "--python", str(python), "--store", store)
    assert svg.read_text().startswith("<svg")
    net = module_of(python).Net()
    net.load_state_dict(digits.best.build().state_dict())


def test_a_front_of_accuracy_and_size(tmp_path: Path) -> None:
    (tmp_path / "pareto.py").write_text(PARETO)
    store = tmp_path / "velodrome.db"
    study = velo.sweep(str(tmp_path / "pareto.py"), trials=12, executor="inline", sampler="evolution:population=5",
                       seed=0, store=store, progress=False)
    assert len(study.front) == len(study.trials), "more parameters are always better here, and always cost more"
    volume = study.hypervolume(accuracy=0.0, params=4000)
    assert 0 < volume < 4000
    assert volume >= study.hypervolume(accuracy=0.1, params=3000)
    with pytest.raises(UsageError, match="each of the goal's metrics"):
        study.hypervolume(accuracy=0.0)
    data = json.loads(run("best", study.name, "--json", "--store", str(store)).stdout)
    assert data["hypervolume"] == study.hypervolume()
    assert "hypervolume" in run("best", study.name, "--store", str(store)).stderr


def test_a_study_without_a_net_has_no_architecture(tmp_path: Path) -> None:
    store = tmp_path / "velodrome.db"
    velo.sweep(lambda trial: trial.params["x"], velo.Space(x=velo.Float(0, 1)), trials=1, executor="inline",
               name="plain", store=store, progress=False)
    assert "searches no architecture" in run("show", "plain", "--architecture", "--store", str(store), status=2).stderr


@pytest.mark.parametrize("sampler", ["evolution:population=3", "local:start=3", "predictor:start=3,candidates=20",
                                     "scalar:sampler=predictor,start=3", "evolution:warm=params,pool=30"])
def test_a_study_that_was_stopped_goes_on_as_one_that_was_not(sampler: str, tmp_path: Path) -> None:
    (tmp_path / "pareto.py").write_text(PARETO)

    def study(name: str, trials: int) -> velo.Study:
        return velo.sweep(str(tmp_path / "pareto.py"), trials=trials, executor="inline", sampler=sampler, seed=0,
                          name=name, store=tmp_path / "velodrome.db", progress=False)

    whole = study("whole", 9)
    study("stopped", 5)
    resumed = velo.resume("stopped", trials=9, store=tmp_path / "velodrome.db", progress=False)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


def test_a_study_that_names_no_sampler_keeps_the_one_that_its_space_calls_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pareto.py").write_text(PARETO)
    how: dict[str, Any] = {"executor": "inline", "seed": 0, "store": tmp_path / "velodrome.db"}
    study = velo.sweep(str(tmp_path / "pareto.py"), trials=2, name="nets", goal="maximize accuracy", **how)
    assert "the sampler is predictor: auto: the space has an architecture (net)" in capsys.readouterr().err
    resumed = velo.resume("nets", trials=3, store=how["store"], progress=False)
    assert study.row.sampler == resumed.row.sampler == "predictor"
    kept = "select action, reason from decisions where decided_by = 'sampler' and study_id = :study"
    assert study.query(kept, study=study.row.id) == [
        {"action": "predictor", "reason": "auto: the space has an architecture (net)"}]
    assert "auto: the space has an architecture (net)" in run("show", "nets", "--store", str(how["store"])).stdout
    asked = velo.create_study(velo.Space(x=velo.Float(0, 1)), store=how["store"])
    assert asked.row.sampler == "tpe"
    assert [row["action"] for row in asked.query(kept, study=asked.row.id)] == ["tpe"]


@pytest.mark.parametrize(("sampler", "said"), [
    ("predictor:warm=params", "needs a net to score"), ("evolution:warm=synflow", "needs a net to score"),
    ("local:warm=params", "needs a net to score"), ("sharing", "needs a space with stages"),
])
def test_a_sampler_that_the_space_does_not_suit_is_refused_before_there_is_a_study(
    sampler: str, said: str, tmp_path: Path
) -> None:
    store = tmp_path / "velodrome.db"
    with pytest.raises(UsageError, match=said):
        velo.sweep(lambda trial: 0.0, velo.Space(x=velo.Float(0, 1)), sampler=sampler, executor="inline",
                   store=store, progress=False)
    assert not store.exists()
