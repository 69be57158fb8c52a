"""``velo export``, and ``velo play`` of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import velodrome as velo_api
from tests.cli.conftest import Velo
from tests.cli.test_play import train
from velodrome.errors import UsageError


def test_an_agent_goes_where_there_is_no_store(velo: Velo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = train()
    done = velo("export", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "run.safetensors\n"
    assert "run/0, best weights" in done.stderr
    assert "velo play run.safetensors" in done.stderr
    expected = json.loads(velo("play", "run", "--episodes", "2", "--seed", "4", "--json").stdout)
    (tmp_path / "elsewhere").mkdir()
    Path("run.safetensors").rename(tmp_path / "elsewhere" / "run.safetensors")
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = json.loads(velo("play", "run.safetensors", "--episodes", "2", "--seed", "4", "--json").stdout)
    assert told["episodes"] == expected["episodes"]
    assert (told["study"], told["trial"], told["env"]) == ("run.safetensors", None, "CartPole-v1")
    done = velo("play", str(Path.cwd() / "run.safetensors"), "--env", "velodrome/CartPole-v1")
    assert "mean return" in done.stderr
    agent = velo_api.load_agent(Path("run.safetensors"))
    assert agent.params == study.trials[0].params


def test_which_weights_and_where_to(velo: Velo) -> None:
    train()
    told = json.loads(velo("export", "run/0", "--weights", "last", "--to", "last.safetensors", "--json").stdout)
    assert told == {"file": "last.safetensors", "study": "run", "trial": 0, "env": "CartPole-v1", "weights": "last",
                    "size_bytes": Path("last.safetensors").stat().st_size}
    assert velo_api.play("last.safetensors", episodes=2).returns.shape == (2,)


@pytest.mark.parametrize(("args", "code", "said"), [
    (("export", "none"), 4, "There is no study of that name"),
    (("export", "run", "7"), 4, "7"),
    (("export", "run", "--to", "agent.pt"), 2, "allowed: NAME.safetensors"),
    (("export", "run", "--weights", "good"), 2, "allowed: best, last"),
    (("play", "none.safetensors"), 4, "There is no such file"),
    (("play", "agent.safetensors", "0"), 2, "holds one agent"),
    (("play", "agent.safetensors", "--weights", "last"), 2, "velo export STUDY TRIAL --weights last"),
    (("play", "agent.safetensors", "--env", "CartPol-v1"), 2, "Did you mean 'CartPole-v1'?"),
    (("play", "agent.safetensors", "--env", "Pendulum-v1"), 2, "it was trained in CartPole-v1"),
    (("play", "run", "--env", "CartPole-v1"), 2, "with a file only"),
])
def test_mistakes(args: tuple[str, ...], code: int, said: str, velo: Velo) -> None:
    train()
    velo_api.load_agent("run").save("agent.safetensors")
    done = velo(*args)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr


def test_a_file_that_is_no_agent(velo: Velo) -> None:
    Path("bad.safetensors").write_bytes(b"no such thing")
    done = velo("play", "bad.safetensors")
    assert done.exit_code == 2
    assert "holds no agent" in done.stderr
    with pytest.raises(UsageError, match="holds no agent"):
        velo_api.load_agent("bad.safetensors")
