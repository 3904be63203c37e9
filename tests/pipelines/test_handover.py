"""Learning on a thread of its own."""

import threading

import pytest

from headrace.pipelines.training.handover import Threaded


def test_epochs_are_learned_in_order_each_returned_once():
    """Whatever is done by when."""
    handover = Threaded(lambda number: number * 2)
    learned = [done for number in range(100) for done in handover.put(number)]
    learned += handover.flush()
    assert learned == [number * 2 for number in range(100)]
    assert handover.flush() == []


def test_only_some_epochs_are_pending():
    """Their samples are in memory: who hands over another one waits."""
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def learn(number):
        begun.release()
        go_on.acquire()
        return number

    handover = Threaded(learn)
    assert [handover.put(number) for number in range(2)] == [[], []]
    begun.acquire()
    threading.Timer(0.05, go_on.release, (10,)).start()
    assert handover.put(2)[0] == 0


def test_an_error_is_raised_by_who_waits_for_the_epoch():
    """By the next that hands over, or flushes."""
    handover = Threaded(lambda number: 1 // number)
    with pytest.raises(ZeroDivisionError):
        [*handover.put(0), *handover.flush()]
    assert handover.put(1) + handover.flush() == [1]
