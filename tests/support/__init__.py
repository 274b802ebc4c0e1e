"""Helpers of the tests: a proxy process, a raw protocol client, a faulty network."""
