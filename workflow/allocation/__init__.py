"""Inside an allocation, on its first node: the agent, its node pool and its tasks."""
