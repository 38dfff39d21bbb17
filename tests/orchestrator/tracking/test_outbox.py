"""The outbox: everything in order, nothing lost in silence, and never an exception for the one who
puts something in.
"""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import pytest

from orchestrator.tracking.outbox import ATTEMPTS, NotYet, Outbox
from tests.waiting import until


class Service:
    """Fails as told: the first `away` calls as if it were down, and whatever is called "bad" for
    good.
    """

    def __init__(self, away=0):
        self.away = away
        self.seen = []

    def call(self, name):
        def operation():
            if self.away:
                self.away -= 1
                raise ConnectionError("nobody answers\nsecond line")
            if name == "bad":
                raise ValueError("no such thing")
            self.seen.append(name)

        return operation


@pytest.fixture
def now(monkeypatch):
    """Seconds of the outbox's clock; while it sleeps, somewhat more than it asked for pass."""
    now = [100.0]

    def sleep(seconds):
        now[0] += seconds + 0.001

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("orchestrator.tracking.outbox.time", clock)
    return now


def outbox(answers=lambda: False):
    return Outbox(lambda error: isinstance(error, ConnectionError), answers, every=0.01)


def test_what_waits_is_delivered_at_once_where_there_is_a_hurry():
    service = Service()
    box = Outbox(lambda error: False, lambda: True, every=1000.0)
    for name in "ab":
        box.put(name, service.call(name))
        box.hurry()
        until(lambda name=name: name in service.seen)
    assert box.close(5.0) == ()
    assert service.seen == ["a", "b"]


def test_everything_arrives_in_order():
    service, box = Service(), outbox()
    for number in range(50):
        box.put(str(number), service.call(number))
    assert box.close(5.0) == ()
    assert service.seen == list(range(50))


def test_a_service_that_comes_back_gets_everything_in_order(caplog):
    service, box = Service(away=3), outbox()
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            box.put(str(number), service.call(number))
        assert box.close(5.0) == ()
    assert service.seen == list(range(5))
    assert "0: not delivered yet, will try again: nobody answers" in caplog.text
    assert "second line" not in caplog.text


def test_what_can_never_be_delivered_is_dropped_and_named():
    service, box = Service(), outbox()
    for name in ("a", "bad", "c"):
        box.put(f"call {name}", service.call(name))
    assert box.close(5.0) == ("call bad",)
    assert service.seen == ["a", "c"]


def test_a_service_that_stays_away_costs_only_the_patience(now):
    service, box = Service(away=10**9), outbox()
    box.put("first", service.call(1))
    box.put("second", service.call(2))
    assert box.close(0.1) == ("first", "second")
    assert now[0] == pytest.approx(100.1, abs=0.02)


def test_an_operation_that_hangs_does_not_hang_the_sweep(monkeypatch):
    monkeypatch.setattr("orchestrator.tracking.outbox.LONGEST_CALL", 0.1)
    box, release = outbox(), threading.Event()
    box.put("hangs", lambda: release.wait(10.0))
    assert box.close(0.1) == ("hangs",)
    release.set()


@pytest.mark.parametrize("count", [3])
def test_an_operation_may_put_another_one(count):
    service, box = Service(), outbox()

    def again(left):
        service.seen.append(left)
        if left:
            box.put(str(left - 1), lambda: again(left - 1))

    box.put(str(count), lambda: again(count))
    time.sleep(0.1)
    assert box.close(5.0) == ()
    assert service.seen == [3, 2, 1, 0]


def test_what_fails_although_the_service_answers_is_dropped_after_some_attempts(caplog):
    service, box = Service(away=ATTEMPTS), outbox(answers=lambda: True)
    for name in ("a", "b"):
        box.put(name, service.call(name))
    assert box.close(5.0) == ("a",)
    assert service.seen == ["b"]
    assert "a: not delivered: nobody answers" in caplog.text


def test_closing_waits_as_long_as_the_service_gets_on(now, monkeypatch):
    monkeypatch.setattr("orchestrator.tracking.outbox.LONGEST_CALL", 0.0)
    monkeypatch.setattr("orchestrator.tracking.outbox.SAY_EVERY", 0.01)  # and looks
    service, box = Service(), outbox()

    def slow(name):
        def operation():
            box._closing.wait(10.0)  # `close` has looked at the clock
            now[0] += 60
            box.answered()  # a call of several
            now[0] += 60
            time.sleep(0.03)  # `close` looks meanwhile
            service.seen.append(name)

        return operation

    for number in range(5):
        box.put(str(number), slow(number))
    assert box.close(100.0) == ()
    assert service.seen == list(range(5))


def test_a_time_of_absence_is_said_once(caplog):
    service, box = Service(away=4), outbox()
    box.put("a", service.call("a"))
    assert box.close(5.0) == ()
    assert caplog.text.count("will try again") == 1


def test_what_is_lost_twice_is_named_once():
    service, box = Service(), outbox()
    for _ in range(3):
        box.put("epochs", service.call("bad"))
    assert box.close(5.0) == ("epochs",)


@pytest.mark.parametrize("error", [ValueError("404"), ConnectionError("500")])
def test_the_first_operation_is_kept_while_it_is_refused_and_that_is_said_once(caplog, error):
    """A proxy answers before the service behind it does."""
    service, refused, enough = Service(), [], threading.Event()

    def first():
        if len(refused) < ATTEMPTS + 2:
            refused.append(1)
            raise error
        enough.set()

    box = Outbox(
        lambda raised: isinstance(raised, ConnectionError),
        lambda: True,
        ("first", first),
        every=0.001,
    )
    box.put("a", service.call("a"))
    assert enough.wait(10.0)
    assert box.close(5.0) == ()
    assert service.seen == ["a"]
    assert caplog.text.count(f"first: not delivered yet, will try again: {error}") == 1


def test_what_waits_for_something_else_lets_others_pass():
    service, box, comes, passed = Service(), outbox(), threading.Event(), threading.Event()

    def waits():
        if not comes.is_set():
            raise NotYet
        service.seen.append("waited")

    box.put("waits", waits)
    box.put("a", service.call("a"))
    box.put("passed", passed.set)
    assert passed.wait(10.0)
    assert service.seen == ["a"]
    comes.set()
    assert box.close(5.0) == ()
    assert service.seen == ["a", "waited"]


def test_once_the_outbox_is_closing_nothing_passes_what_waits_and_no_patience_is_lost(now):
    """However long it takes: what is waited for has an end of its own."""
    service, box, looks = Service(), outbox(), iter(range(100))

    def waits():
        now[0] += 100.0
        if next(looks) < 20:
            raise NotYet
        service.seen.append("waited")

    box.put("is closing", lambda: box._closing.wait(10.0))
    box.put("waits", waits)
    box.put("last", service.call("last"))
    assert box.close(5.0) == ()
    assert service.seen == ["waited", "last"]


def test_the_last_one_passes_nothing_that_was_passed_before_the_outbox_was_closing():
    """An upload may take minutes: of the round in which another end was passed."""
    service, box, comes, uploads = Service(), outbox(), threading.Event(), threading.Event()

    def waits():
        if not comes.is_set():
            raise NotYet
        service.seen.append("waited")

    def upload():
        uploads.set()
        box._closing.wait(10.0)
        comes.set()
        service.seen.append("upload")

    box.put("waits", waits)
    box.put("upload", upload)
    assert uploads.wait(10.0)
    assert box.close(5.0, ("last", service.call("last"))) == ()
    assert service.seen == ["upload", "waited", "last"]


def test_the_last_one_is_named_where_the_outbox_is_left(monkeypatch):
    monkeypatch.setattr("orchestrator.tracking.outbox.LONGEST_CALL", 0.1)
    box, hangs, release = outbox(), threading.Event(), threading.Event()

    def operation():
        hangs.set()
        release.wait(10.0)

    box.put("hangs", operation)
    assert hangs.wait(10.0)
    assert box.close(0.1, ("last", lambda: None)) == ("hangs", "last")
    release.set()


def test_what_waits_when_the_outbox_is_left_is_named(monkeypatch):
    monkeypatch.setattr("orchestrator.tracking.outbox.LONGEST_CALL", 0.1)
    box, passed, release = outbox(), threading.Event(), threading.Event()

    def waits():
        raise NotYet

    def hangs():
        passed.set()
        release.wait(10.0)

    box.put("waits", waits)
    box.put("hangs", hangs)
    assert passed.wait(10.0)
    assert box.close(0.1) == ("waits", "hangs")
    release.set()
