"""What running trials ask their study over the pipe, and the answers."""

from __future__ import annotations

from velodrome.errors import SpaceError
from velodrome.trials import wire
from velodrome.trials.executor import Host
from velodrome.trials.wire import Message

QUESTIONS = (wire.ASK_STOP, wire.ASK_PAUSE, wire.ASK_SAVE, wire.ASK_VERDICTS, wire.ASK_PARAM)


def answer(host: Host, question: Message) -> Message:
    """The answer to a message of one of these kinds."""
    match question:
        case (wire.ASK_STOP, number):
            return wire.ANSWER, host.should_stop(number)
        case (wire.ASK_PAUSE, number):
            return wire.ANSWER, host.should_pause(number)
        case (wire.ASK_SAVE, number, at_end):
            return wire.ANSWER, host.should_save(number, at_end=at_end)
        case (wire.ASK_VERDICTS, trials):
            return wire.ANSWER, [(host.should_stop(n), host.should_save(n, at_end=at_end)) for n, at_end in trials]
        case (wire.ASK_PARAM, number, name, domain):
            try:
                return wire.ANSWER, host.suggest(number, name, domain)
            except SpaceError as error:
                return wire.REFUSAL, error.what, error.given, error.allowed, error.hint
    raise AssertionError(question)
