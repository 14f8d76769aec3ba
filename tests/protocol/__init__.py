"""The core, without sockets: plain values, conversations, and time as an argument."""
