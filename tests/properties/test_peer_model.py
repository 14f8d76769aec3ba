"""
A client at every kind of relay, whatever happens in between: nothing lost, nothing twice, in order.

Frames travel one by one, so a connection can be lost at any point: between a
message and its ping, between an answer and its arrival, while the disk works.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agora.canonical import Json
from agora.protocol.client.outbox import Outgoing, Status
from agora.protocol.client.session import PeerState
from agora.protocol.rates import TokenBucket
from agora.testing.clock import ManualClock
from agora.testing.conversation import Agent, Conversation, keys_of
from tests.protocol.client.dialects import Agora1Relay, CurrentRelay, OlderRelay

FRIENDS = ("bob", "carol")
TAKEN = (Status.SENT, Status.STORED, Status.DELIVERED, Status.DUPLICATE)

REFUSALS = ("rate_limited", "mailbox_full", "unknown_recipient", "too_large")


class ClientMachine(RuleBasedStateMachine):
    """Alice writes to her friends, who come and go, at a relay of our own."""

    limits: ClassVar[dict[str, Any]] = {}

    @initialize()
    def begin(self) -> None:
        self.open_relay()
        self.sent: list[tuple[str, Outgoing]] = []
        self.doubtful: set[Outgoing] = set()
        self.alice = self.new_agent("alice")
        self.friends = {name: self.new_agent(name) for name in FRIENDS}

    # What the kinds of relays differ in

    def open_relay(self) -> None:
        self.talk = Conversation(**self.limits)
        self.clock = self.talk.clock

    def new_agent(self, name: str) -> Agent:
        return self.talk.agent(name)

    def pass_time(self, seconds: float) -> None:
        self.talk.pass_time(seconds)

    def has_got(self, name: str, outgoing: Outgoing) -> bool:
        """Tell whether a message is with its recipient, or on the relay's disk."""
        page = self.talk.mailbox.page(outgoing.to, after=0, max_messages=1000, max_bytes=1_000_000)
        is_stored = outgoing.envelope.id in [mail.envelope_id for mail in page.mail]
        return is_stored or outgoing.envelope.payload in self.friends[name].payloads()

    # What happens

    @rule(name=st.sampled_from(FRIENDS), count=st.integers(1, 4))
    def alice_has_something_to_say(self, name: str, count: int) -> None:
        for _ in range(count):
            self.sent.append((name, self.alice.sends(keys_of(name).peer_id, len(self.sent))))

    @precondition(lambda self: not self.alice.is_connected)
    @rule()
    def alice_connects(self) -> None:
        self.alice.connects()

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def alice_writes_a_frame(self) -> None:
        self.alice.writes()

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def alice_writes_all_she_may(self) -> None:
        while self.alice.writes():
            pass

    @rule()
    def the_relay_takes_a_frame(self) -> None:
        self.alice.carries_up()

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def alice_hears_a_frame(self) -> None:
        self.alice.carries_down()

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def a_frame_is_answered_before_the_next_is_written(self) -> None:
        self.alice.writes()
        while self.alice.carries_up() or self.alice.carries_down():
            pass

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def all_is_said_and_heard(self) -> None:
        self.alice.talks()

    @precondition(lambda self: self.alice.is_connected)
    @rule()
    def alice_is_cut_off(self) -> None:
        doubtful = self.in_flight_to_those_there()
        self.alice.loses_connection()
        self.doubtful |= doubtful

    @rule(name=st.sampled_from(FRIENDS))
    def a_friend_comes_or_goes(self, name: str) -> None:
        friend = self.friends[name]
        if friend.is_connected:
            friend.talks()
            friend.loses_connection()
        else:
            friend.connects()
            friend.talks()

    @rule(seconds=st.sampled_from([0.01, 0.4, 5.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)
        if self.alice.is_connected:
            doubtful = self.in_flight_to_those_there()
            self.alice.ticks()
            if self.alice.session is None or self.alice.session.state is PeerState.CLOSED:
                self.doubtful |= doubtful

    def in_flight_to_those_there(self) -> set[Outgoing]:
        session = self.alice.session
        assert session is not None
        return {o for o in self.alice.outbox if o in session.in_flight and o.to in session.peers}

    # What must hold

    @invariant()
    def every_message_is_settled_or_waits(self) -> None:
        waiting = [outgoing for _, outgoing in self.sent if outgoing.status is Status.QUEUED]
        assert list(self.alice.outbox) == waiting

    @invariant()
    def without_agora_1_one_message_at_a_time_is_on_its_way_to_a_peer(self) -> None:
        session = self.alice.session
        recipients = [outgoing.to for outgoing in session.in_flight] if session else []
        if session and not session.protocol:
            assert len(recipients) == len(set(recipients))

    @invariant()
    def what_counts_as_sent_is_there(self) -> None:
        for friend in self.friends.values():
            if friend.is_connected:
                friend.talks()
        for name, outgoing in self.sent:
            if outgoing.status in TAKEN and not self.may_be_lost(outgoing):
                assert self.has_got(name, outgoing)

    @invariant()
    def what_was_heard_is_in_order(self) -> None:
        for friend in self.friends.values():
            self.check_heard(friend.payloads())

    def check_heard(self, heard: list[Json]) -> None:
        assert heard == sorted(set(heard))  # type: ignore[type-var]

    def may_be_lost(self, outgoing: Outgoing) -> bool:
        return False

    def teardown(self) -> None:
        """In the end everyone is there, and everything arrives."""
        if not hasattr(self, "alice"):
            return
        for friend in self.friends.values():
            if not friend.is_connected:
                friend.connects()
        for _ in range(100):
            if not self.alice.is_connected:
                self.alice.connects()
            self.alice.talks()
            for friend in self.friends.values():
                friend.talks()
            if not self.alice.outbox:
                break
            session = self.alice.session
            assert session is not None
            self.pass_time(session.next_wake(now=self.clock()) + 0.001)
            self.alice.ticks()
        assert list(self.alice.outbox) == []
        self.what_counts_as_sent_is_there()
        self.what_was_heard_is_in_order()


class LimitedMachine(ClientMachine):
    """The same at a relay that limits both messages and frames."""

    limits: ClassVar[dict[str, Any]] = {
        "rate_limit_max_messages": 3,
        "rate_limit_max_frames": 6,
        "rate_limit_window_ms": 1000,
    }


class PatientMachine(ClientMachine):
    """The same with a rate of her own, that no relay has to remind her of."""

    def new_agent(self, name: str) -> Agent:
        return self.talk.agent(name, rate=TokenBucket(capacity=2, window=1.0, now=0.0))


class StorageMachine(ClientMachine):
    """The same where friends have a small mailbox, on a disk that may be busy."""

    limits: ClassVar[dict[str, Any]] = {
        "storage_peers": FRIENDS,
        "mailbox_max_messages": 3,
        "mailbox_max_bytes": 5000,
    }

    @rule()
    def the_disk_is_busy_or_not(self) -> None:
        self.talk.disk.is_held = not self.talk.disk.is_held
        self.talk.settle()

    def teardown(self) -> None:
        if hasattr(self, "talk"):
            self.talk.disk.is_held = False
            self.talk.settle()
        super().teardown()


class OlderMachine(ClientMachine):
    """The same at a relay that looks at nothing and forwards repeats."""

    relay_type: type[OlderRelay] | type[CurrentRelay] = OlderRelay

    def open_relay(self) -> None:
        self.relay = self.relay_type()
        self.clock = ManualClock()

    def new_agent(self, name: str) -> Agent:
        return Agent(self.relay, keys_of(name), self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def has_got(self, name: str, outgoing: Outgoing) -> bool:
        return outgoing.envelope.payload in self.friends[name].payloads()


class CurrentMachine(OlderMachine):
    """
    The same at a relay that spends ids for nothing and drops repeats in silence.

    When a peer that we believed to be there had gone, and we were cut off before
    we heard so, its message is lost on this relay: any relay of the reference
    would have to say more. What was signed anew may come twice.
    """

    relay_type = CurrentRelay

    def may_be_lost(self, outgoing: Outgoing) -> bool:
        return outgoing in self.doubtful

    def check_heard(self, heard: list[Json]) -> None:
        first_times = list(dict.fromkeys(heard))
        assert first_times == sorted(first_times)  # type: ignore[type-var]


class RefusingMachine(OlderMachine):
    """The same at a relay of Agora/1 that refuses at random, and answers when it likes."""

    def open_relay(self) -> None:
        self.naive = Agora1Relay(keys_of("relay"))
        self.clock = ManualClock()

    def new_agent(self, name: str) -> Agent:
        return Agent(self.naive, keys_of(name), self.clock)

    def has_got(self, name: str, outgoing: Outgoing) -> bool:
        return outgoing.envelope.payload in self.taken(name)

    def taken(self, name: str) -> list[Json]:
        taken = self.naive.taken.get(keys_of(name).peer_id, [])
        return [envelope["payload"] for envelope in taken]

    @rule(codes=st.lists(st.sampled_from([*REFUSALS, None]), min_size=1, max_size=4))
    def the_relay_takes_all_frames_but_refuses_some(self, codes: list[str | None]) -> None:
        self.naive.refusals = codes
        while self.alice.carries_up():
            pass

    @precondition(lambda self: self.naive.unsaid)
    @rule(data=st.data())
    def the_relay_answers_a_message(self, data: st.DataObject) -> None:
        self.naive.says(data.draw(st.integers(0, len(self.naive.unsaid) - 1)))

    @invariant()
    def what_was_taken_is_in_order(self) -> None:
        for name in FRIENDS:
            self.check_heard(self.taken(name))

    def teardown(self) -> None:
        if not hasattr(self, "naive"):
            return
        self.naive.refusals = []
        for _ in range(100):
            if not self.alice.is_connected:
                self.alice.connects()
            self.alice.talks()
            while self.naive.unsaid:
                self.naive.says(0)
            self.alice.talks()
            if not self.alice.outbox:
                break
            assert self.alice.session is not None
            self.pass_time(self.alice.session.next_wake(now=self.clock()) + 0.001)
            self.alice.ticks()
        assert list(self.alice.outbox) == []
        self.what_was_taken_is_in_order()
        self.what_counts_as_sent_is_there()


@pytest.mark.parametrize(
    "machine",
    [
        ClientMachine,
        RefusingMachine,
        LimitedMachine,
        PatientMachine,
        StorageMachine,
        OlderMachine,
        CurrentMachine,
    ],
)
def test_no_message_is_lost_or_comes_twice_or_overtakes(machine: type[ClientMachine]) -> None:
    run_state_machine_as_test(machine)


def test_the_states_of_a_conversation_are_those_that_the_models_know() -> None:
    assert [state.value for state in PeerState] == ["registering", "registered", "closed"]
