"""What a sampler is: a function from the history of a study to the next configuration.

The calling loop::

    rng = seeding.generator(study_seed, "suggest", number)
    suggestion = sampler.suggest(number, history, rng)

A sampler holds no state that the history can't give it back: ``history`` has every finished trial in the order of
finishing, every running one, and the ``attrs`` of both. After a resume, a new sampler over the rebuilt history goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from velodrome.types import ParamValue, Suggestion

if TYPE_CHECKING:
    import numpy as np

    from velodrome.search.domains import Domain
    from velodrome.search.history import History


LENDS = "lends"
"""An attribute of a suggestion, true where other trials are to begin from the trial's last checkpoint: it stays."""
BEGINS_FROM = "begins_from"
"""An attribute of a suggestion: the number of the finished trial whose last checkpoint ``trial.restore`` gives it."""


class Exhausted(Exception):  # noqa: N818 - an answer, not an error
    """The sampler has nothing left to suggest: a grid was walked to its end."""


class Sampler(Protocol):
    """Suggests configurations. ``number`` is the trial's number, from 0; ``rng`` belongs to that trial alone.

    Called twice for one number, a sampler gives another suggestion from the same ``rng`` (the first was a duplicate).
    """

    def suggest(self, number: int, history: History, rng: np.random.Generator) -> Suggestion:
        """The configuration of trial ``number`` over ``history.space``.

        Where ``history.is_define_by_run``, the suggestion has no parameters, whatever the space has grown to by then,
        and those of the trial are asked for one at a time by ``suggest_param``.

        Raises:
            Exhausted: If nothing is left.
        """
        ...

    def suggest_param(
        self, number: int, name: str, domain: Domain, history: History, rng: np.random.Generator
    ) -> ParamValue:
        """The value of one parameter that running trial ``number`` asks for (define by run)."""
        ...
