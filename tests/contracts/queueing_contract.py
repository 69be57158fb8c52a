"""What every executor must do that hands short trials to a worker before it has finished the one before."""

from __future__ import annotations

from pathlib import Path

from tests.contracts.executor_contract import ExecutorContract
from velodrome.trials.events import GivenBack


class QueueingContract(ExecutorContract):
    """Subclass it instead of ``ExecutorContract``; ``make`` takes ``prefetch``."""

    def test_short_trials_are_fetched_ahead(self, tmp_path: Path) -> None:
        with self.running(tmp_path, "return 1.0") as running:
            assert running.executor.room() <= 1
            running.run(0)
            running.run(1)
            running.until(lambda: running.executor.room() > 1)
        with self.running(tmp_path, "return 1.0", prefetch=1) as running:
            running.run(0)
            running.run(1)
            assert running.executor.room() == 1

    def test_what_waits_behind_a_long_trial_is_given_back(self, tmp_path: Path) -> None:
        body = "import time\nif trial.number == 2: time.sleep(600)\nreturn 1.0"
        with self.running(tmp_path, body) as running:
            running.run(0)
            running.run(1)
            running.until(lambda: running.executor.room() >= 3)
            for number in (2, 3, 4):
                running.launch(number)
            running.until(lambda: bool(running.host.of(3) and running.host.of(4)))
            assert running.host.events[-2:] == [GivenBack(3, ran=False), GivenBack(4, ran=False)]
