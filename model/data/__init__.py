"""From published containers to batches: readers, store, references, sampling, loader."""
