"""
Every bound of a relay, with its unit, its reason and what happens at it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

from agora.settings import Effect, check_setting, setting

__all__ = ["Limits"]

_bound = partial(setting, effect=Effect.AT_ONCE)
"""A setting that a running relay takes over at once, unless it says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What one relay node admits.

    Raises:
        ConfigurationError: When made with a value outside a field's bounds.
    """

    max_frame_bytes: int = _bound(
        262_144,
        unit="bytes",
        help="largest WebSocket message, or body of an HTTP request, taken",
        reason="a long text fits many times; a flood of large frames does not",
        overflow="close 1009; HTTP 413 `too_large`",
        minimum=1024,
        effect=Effect.NEW_CONNECTIONS,
    )
    max_connections: int = _bound(
        10_000,
        unit="connections",
        help="open connections of either door, those still shaking hands included",
        reason="what one process serves with memory to spare",
        overflow="HTTP 503 at the handshake",
        minimum=1,
    )
    max_peers: int = _bound(
        10_000,
        unit="peers",
        help="distinct keys online at once",
        reason="one connection each; the reference's 100 turns a small fleet away",
        overflow="error `at_capacity`, close 1013",
        minimum=1,
    )
    max_sessions: int = _bound(
        256,
        unit="sessions",
        help="sessions of one key at once",
        reason="a fleet that shares a key; each message to it is written that many times",
        overflow="error `at_capacity`, close 1013",
        minimum=1,
    )
    max_unsent_bytes: int = _bound(
        1_048_576,
        unit="bytes",
        help="bytes waiting to be sent on one connection before it counts as too slow",
        reason="seconds of a busy conversation; a thousand stuck readers take a gigabyte",
        overflow="close 4001 `slow_consumer`; mail in a mailbox stays",
        minimum=1024,
    )
    register_timeout: float = _bound(
        10.0,
        unit="s",
        help="time a connection has to register",
        reason="a few round trips on the worst of links",
        overflow="close 4003 `register_timeout`",
        minimum=0.01,
        effect=Effect.NEW_CONNECTIONS,
    )
    heartbeat_interval: float = _bound(
        30.0,
        unit="s",
        help="silence after which a session is pinged, then closed; 0 is off",
        reason="the reference's; keeps NAT bindings open and finds the dead within a minute",
        overflow="close 4002 `idle`",
        minimum=0.0,
    )
    rate_limit_enabled: bool = _bound(
        True,
        unit="",
        help="whether rates are limited at all",
        reason="a relay meets strangers",
    )
    rate_limit_max_messages: int = _bound(
        200,
        unit="messages",
        help="messages a key may send at once, and within each window after that",
        reason="a conversation never meets it; the reference's 10 a minute silences agents",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    rate_limit_window_ms: int = _bound(
        10_000,
        unit="ms",
        help="time in which a used-up rate is whole again",
        reason="200 in 10 s is 20 a second",
        minimum=1,
    )
    rate_limit_max_frames: int = _bound(
        2_000,
        unit="frames",
        help="frames of any kind a connection may send at once, and within each window",
        reason="ten for each message: pings and mistakes count too, so nobody gets work for free",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    rate_limit_max_address_messages: int = _bound(
        20_000,
        unit="messages",
        help="messages that all keys of one network address may send at once, and within "
        "each window",
        reason="a hundred busy agents behind one NAT; keys are free, addresses are not",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    rate_limit_max_joins: int = _bound(
        10_000,
        unit="registrations",
        help="registrations from one network address at once, and within each window",
        reason="a whole fleet that comes back at once; each costs a signature",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    rate_limit_max_requests: int = _bound(
        600,
        unit="requests",
        help="HTTP requests with tokens of one key at once, and within each window",
        reason="three for each message that a key may send: to send, to poll, to ack",
        overflow="HTTP 429 `rate_limited` with `Retry-After`",
        minimum=1,
    )
    rate_limit_max_address_requests: int = _bound(
        6_000,
        unit="requests",
        help="HTTP requests from one network address at once, and within each window",
        reason="ten busy agents behind one NAT, or a third of a core",
        overflow="HTTP 429 `rate_limited` with `Retry-After`",
        minimum=1,
    )
    broadcast_cost: int = _bound(
        10,
        unit="messages",
        help="how many messages one broadcast counts for",
        reason="it reaches everyone",
        minimum=1,
    )
    max_recipients: int = _bound(
        100,
        unit="peers",
        help="recipients of one message frame",
        reason="a group in one upload; it costs as many messages as it has recipients",
        overflow="error `invalid_message`",
        minimum=1,
    )
    freshness_past: float = _bound(
        604_800.0,
        unit="s",
        help="how long ago an envelope may have been signed; 0 is any time",
        reason="as long as mail is kept: an outbox may have slept for as long",
        overflow="error `stale` with the relay's `now`",
        minimum=0.0,
    )
    freshness_future: float = _bound(
        600.0,
        unit="s",
        help="how far ahead of the relay's clock an envelope may have been signed; 0 is any time",
        reason="clocks without NTP drift by minutes",
        overflow="error `from_the_future` with the relay's `now`",
        minimum=0.0,
    )
    max_pins: int = _bound(
        1_000_000,
        unit="keys",
        help="keys that have proven themselves and are remembered for it",
        reason="some 110 MB; no pin is dropped without the operator",
        overflow="error `at_capacity` to a key that is new here",
        minimum=1,
    )
    max_pins_per_address: int = _bound(
        10_000,
        unit="keys",
        help="new keys from one network address within an hour",
        reason="a fleet's first day; making a million keys takes a stranger four days",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    ack_timeout: float = _bound(
        5.0,
        unit="s",
        help="time in which a live message must be acked before it is stored",
        reason="senders want a receipt soon; a handler that takes minutes keeps the message",
        overflow="the message goes to the mailbox and counts as `stored`",
        minimum=0.01,
    )
    max_nacks: int = _bound(
        10,
        unit="nacks",
        help="how often a recipient may put one message off",
        reason="what failed ten times will fail again",
        overflow="a dead letter, and a bounce `undeliverable` to the sender",
        minimum=1,
    )
    max_watched: int = _bound(
        500,
        unit="peers",
        help="peers that one session may watch by name; everyone is no list",
        reason="some 200 KB for each session that goes to the bound",
        overflow="error `invalid_message`",
        minimum=1,
    )
    presence_interval: float = _bound(
        0.1,
        unit="s",
        help="time over which the coming and going of peers is gathered",
        reason="nobody notices a tenth of a second; a thousand joins become one frame",
        minimum=0.0,
    )
    dedup_enabled: bool = _bound(
        True,
        unit="",
        help="whether an envelope taken for a recipient is refused the second time",
        reason="a retry must not arrive twice",
    )
    dedup_max_envelope_ids: int = _bound(
        200_000,
        unit="ids",
        help="how many taken envelopes are remembered",
        reason="ten minutes of 300 messages a second, in some 35 MB",
        overflow="the oldest is forgotten; the recipient's own memory settles what comes twice",
        minimum=1,
    )
    dedup_max_age: float = _bound(
        600.0,
        unit="s",
        help="how long a taken envelope is remembered",
        reason="longer than any client waits before it sends again",
        minimum=0.0,
    )
    max_name_length: int = _bound(
        64,
        unit="characters",
        help="longest display name",
        reason="a name is sent to everybody who is online",
        overflow="error `invalid_message`",
        minimum=1,
    )
    mailbox_max_messages: int = _bound(
        1_000,
        unit="messages",
        help="messages one mailbox holds",
        reason="a day of a busy peer's absence",
        overflow="error `mailbox_full` to the sender; nothing older is thrown away",
        minimum=1,
    )
    mailbox_max_bytes: int = _bound(
        16_777_216,
        unit="bytes",
        help="bytes one mailbox holds",
        reason="1,000 messages of 16 KiB",
        overflow="error `mailbox_full` to the sender",
        minimum=1024,
    )
    mailbox_sender_share: float = _bound(
        0.25,
        unit="of the mailbox",
        help="part of one mailbox that one sender may fill",
        reason="one eager sender must leave room for three others",
        overflow="error `mailbox_full` with scope `sender`",
        minimum=0.001,
        maximum=1.0,
    )
    store_max_bytes: int = _bound(
        4_294_967_296,
        unit="bytes",
        help="bytes all mailboxes hold together; no sender more of it than what is still free",
        reason="4 GiB: 256 full mailboxes, on any disk",
        overflow="error `mailbox_full`: with scope `sender` to those who hold most, then `store`",
        minimum=1024,
    )
    max_dead_letters: int = _bound(
        10_000,
        unit="messages",
        help="dead letters kept for the operator, of all recipients together",
        reason="a person reads a few; nobody may fill the disk with them",
        overflow="the oldest are forgotten; their senders were told when they died",
        minimum=0,
    )
    storing_max_bytes: int = _bound(
        67_108_864,
        unit="bytes",
        help="bytes of mail waiting to be written to disk",
        reason="seconds of a slow disk, in memory",
        overflow="error `unavailable`",
        minimum=1024,
    )
    mailbox_max_age: float = _bound(
        604_800.0,
        unit="s",
        help="how long mail is kept; 0 is for ever",
        reason="a week's holiday, as the reference's replay window",
        overflow="the message is removed, counted and logged",
        minimum=0.0,
    )
    retain: float = _bound(
        0.0,
        unit="s",
        help="how long mail is kept once its recipient has acked it, for those who ask for a "
        "replay by HTTP; 0 is not at all",
        reason="what was handed over is its recipient's: a relay keeps nothing unasked",
        overflow="the message is removed",
        minimum=0.0,
    )
    retain_max_messages: int = _bound(
        10_000,
        unit="messages",
        help="acked messages kept of one recipient, with `retain`",
        reason="the reference's replay buffer",
        overflow="the oldest are removed",
        minimum=1,
    )
    retain_max_bytes: int = _bound(
        67_108_864,
        unit="bytes",
        help="bytes of acked mail kept of one recipient, with `retain`",
        reason="10,000 messages of 6 KiB; no key fills the store alone",
        overflow="the oldest are removed",
        minimum=1024,
    )
    retain_store_max_bytes: int = _bound(
        1_073_741_824,
        unit="bytes",
        help="bytes of acked mail kept of all recipients together, with `retain`",
        reason="1 GiB, beside `store_max_bytes`: what is over takes no room from what waits",
        overflow="the oldest are removed, whosever they are",
        minimum=1024,
    )
    window_messages: int = _bound(
        256,
        unit="messages",
        help="unconfirmed mail in flight from a mailbox to one session",
        reason="a round trip's worth on a slow link",
        overflow="the rest waits in the mailbox",
        minimum=1,
        effect=Effect.NEW_CONNECTIONS,
    )
    window_bytes: int = _bound(
        524_288,
        unit="bytes",
        help="bytes of unconfirmed mail in flight from a mailbox to one session",
        reason="half of max_unsent_bytes, so that mail alone never makes a session slow",
        overflow="the rest waits in the mailbox",
        minimum=1024,
        effect=Effect.NEW_CONNECTIONS,
    )

    http_session_grace: float = _bound(
        30.0,
        unit="s",
        help="how long a peer counts as online after its last long poll or event stream",
        reason="the pause between two polls of an agent that thinks",
        overflow="its session ends; what it has not acked is in its mailbox",
        minimum=0.0,
        effect=Effect.NEW_CONNECTIONS,
    )
    http_max_wait: float = _bound(
        60.0,
        unit="s",
        help="longest time that an HTTP request is kept waiting for mail, or for its receipts",
        reason="proxies drop what is silent for longer",
        overflow="the answer says what is known until then",
        minimum=0.0,
    )
    http_backlog_bytes: int = _bound(
        65_536,
        unit="bytes",
        help="events that need no ack (presence, late receipts and errors, broadcasts) kept for a "
        "client whose answer or stream was cut",
        reason="some 300 receipts: more than an agent sends between two polls",
        overflow="the oldest are forgotten; who comes back for them gets the event `missed`",
        minimum=1024,
        effect=Effect.NEW_CONNECTIONS,
    )
    http_request_timeout: float = _bound(
        10.0,
        unit="s",
        help="time in which an HTTP request, once begun, must be there as a whole",
        reason="a large body on a slow link; who writes a byte now and then holds a connection",
        overflow="HTTP 408, and the connection is closed",
        minimum=0.01,
        effect=Effect.NEW_CONNECTIONS,
    )
    http_idle_timeout: float = _bound(
        75.0,
        unit="s",
        help="time that an HTTP connection may be open without a request",
        reason="longer than the pause between two polls, so that the next one finds it open",
        overflow="it is closed",
        minimum=0.01,
        effect=Effect.NEW_CONNECTIONS,
    )
    http_write_timeout: float = _bound(
        30.0,
        unit="s",
        help="time in which a client must read of an HTTP answer what is waiting to be sent",
        reason="a phone in a tunnel comes out again; a stuck one holds memory",
        overflow="the connection is dropped",
        minimum=0.01,
        effect=Effect.NEW_CONNECTIONS,
    )
    http_max_head_bytes: int = _bound(
        32_768,
        unit="bytes",
        help="request line and headers of an HTTP request",
        reason="a token with all its claims fits ten times",
        overflow="HTTP 431, and the connection is closed",
        minimum=1024,
        effect=Effect.NEW_CONNECTIONS,
    )
    max_challenges: int = _bound(
        10_000,
        unit="challenges",
        help="HTTP challenges that are open at once, each for `register_timeout`",
        reason="a fleet that comes back at once, in some 20 MB",
        overflow="HTTP 503 `at_capacity`",
        minimum=1,
    )
    max_challenges_per_address: int = _bound(
        2_500,
        unit="challenges",
        help="those of them that one network address may have open",
        reason="one that asks for all it can leaves room for three others",
        overflow="HTTP 503 `at_capacity` with `Retry-After`",
        minimum=1,
    )
    max_http_sessions: int = _bound(
        20_000,
        unit="tokens",
        help="tokens in use at once: those with a session that is open, or was lately",
        reason="every peer twice",
        overflow="HTTP 503 `at_capacity`",
        minimum=1,
    )
    max_http_sessions_per_address: int = _bound(
        5_000,
        unit="tokens",
        help="those of them that came into use from one network address",
        reason="a fleet behind one NAT; three more of its kind have room",
        overflow="HTTP 503 `at_capacity` with `Retry-After`",
        minimum=1,
    )
    max_http_waits_per_key: int = _bound(
        64,
        unit="requests",
        help="HTTP requests of one key that wait at once: event streams and long polls",
        reason="a fleet that shares a key; a client has one, and a lost one or two for a while",
        overflow="HTTP 503 `at_capacity` with `Retry-After`",
        minimum=1,
    )
    max_http_waits_per_address: int = _bound(
        2_500,
        unit="requests",
        help="HTTP requests of one network address that wait at once",
        reason="a quarter of all connections",
        overflow="HTTP 503 `at_capacity` with `Retry-After`",
        minimum=1,
    )
    max_revoked_tokens: int = _bound(
        100_000,
        unit="tokens",
        help="revoked tokens that are remembered, each until it expires",
        reason="some 20 MB; a token is revoked once, and lives for an hour",
        overflow="HTTP 503 `at_capacity`: nothing is revoked that would not stay so",
        minimum=1,
    )
    max_revoked_tokens_per_address: int = _bound(
        25_000,
        unit="tokens",
        help="those of them that were revoked from one network address, since the relay started",
        reason="seven a second for an hour; three others have room",
        overflow="HTTP 503 `at_capacity` with `Retry-After`",
        minimum=1,
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_setting(declared, getattr(self, declared.name))
