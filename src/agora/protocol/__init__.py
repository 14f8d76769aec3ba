"""
The protocol, without I/O: what each side decides, given text and the time.

``relay`` is the relay's side of the conversation, ``client`` that of a peer; what
both sign is in ``proof``, how often anybody may do anything in ``rates``.
"""
