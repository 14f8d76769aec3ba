"""
The client's side: what goes up, in order and until it is settled; what comes, once.

::

    session ──┬─► handshake            who we are, and which relay this is
              ├─► courier ──► outbox   barrier in the reference dialect, pipeline in Agora/1
              ├─► intake ──► seen      in hand until the application is done
              └─► roster, pulse, pace  who is there, is the relay, how fast may we
    consent ──► counting               who may write, and how much: before the application
"""
