"""Benches: ratios against a named baseline of the same run; docs/benchmarks.md says what each figure means."""
