"""Single parts of the hot path, timed alone: `python -m benchmarks.micro`."""
