"""
What a relay costs: a load generator, and the page of figures that is written from it.

The relay is always another process. The generator prepares what it can before the
clock starts (envelopes signed, frames masked), so that what it does meanwhile is
little, and says how much that was.
"""
