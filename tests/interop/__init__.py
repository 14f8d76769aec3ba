"""Our relay and client beside the reference: its recorded frames, and its real programs."""

import pytest

# The asserts of the replayer say what they compared, as those of a test do.
pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("comparing", "player", "replay"))
)
