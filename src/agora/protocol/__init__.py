"""
The protocol without I/O: who may say what, when, and what follows from it.

Both sides of the conversation are here. They take text and the time, and
return :mod:`actions <agora.protocol.actions>` for a shell to carry out; they
never wait, never look at a clock, and never touch a socket or a file.
"""
