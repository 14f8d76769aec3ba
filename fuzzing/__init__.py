"""
One target for each parser: whatever bytes a stranger sends, the answer is a documented one.

Each module states its invariant in its first line, and runs by itself:
``python -m fuzzing.frames --seconds 60``.
"""
