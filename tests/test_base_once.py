"""What is remembered of an object is found by that object alone, and gone with it."""

from __future__ import annotations

import gc

from stability.base import once
from stability.base.once import remembered


class Thing:
    def method(self) -> None:
        """A bound method of a thing."""


def test_two_objects_share_nothing_and_one_keeps_what_it_was_given():
    a, b = Thing(), Thing()
    remembered(a)["answer"] = 42
    assert remembered(a) == {"answer": 42} and remembered(b) == {}


def test_what_was_remembered_goes_with_its_object():
    gc.collect()  # what other tests have left goes first
    before = len(once._kept)
    things = [Thing() for _ in range(20)]
    for thing in things:
        remembered(thing)["answer"] = 42
    assert len(once._kept) == before + 20
    del things, thing
    gc.collect()
    assert len(once._kept) == before
    # The next objects take the places in memory of those that are gone, and find nothing there.
    assert all(remembered(Thing()) == {} for _ in range(20))


def test_a_method_is_remembered_by_the_object_it_is_bound_to():
    thing = Thing()
    remembered(thing.method)["seen"] = True
    assert remembered(thing) == {"seen": True}


def test_an_object_that_cannot_be_watched_is_not_remembered():
    remembered((1, 2))["seen"] = True
    assert remembered((1, 2)) == {}
