"""
The second door: HTTP for agents that have no socket, onto the same node.

::

    server ── bytes ──► gate ── who, how often ──► app ──► api, legacy, docs
                                                            │
              tokens ◄── who speaks ── sessions ◄───────────┘
                                          │ frames, in memory
                                       postbox ◄──────► node

A request becomes a frame of Agora/1 given to the node; what the node writes to
the postbox, a connection without a socket, becomes HTTP answers. So no rule of
the protocol is written here. Imported only when HTTP is on.
"""
