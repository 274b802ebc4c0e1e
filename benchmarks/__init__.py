"""Measures pgproxy beside the proxies it is compared with: `python -m benchmarks`, see README.md."""
