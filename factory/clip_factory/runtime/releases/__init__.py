"""Releases found, fetched, cached and verified, with the standard library alone."""
