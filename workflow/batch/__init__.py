"""Outside an allocation: one batch job per attempt, exactly once."""
