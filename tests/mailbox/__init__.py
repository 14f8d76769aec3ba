"""Where mail waits: one contract for all, and what each technology promises besides."""

import pytest

# The asserts of the contract say what they compared, as those of a test do.
pytest.register_assert_rewrite("agora.testing.conformance")
