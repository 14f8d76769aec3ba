"""The tests; a package so that they share :mod:`tests.support`."""
