"""Compute minutes: quotas, charges and usage, folded from the event log."""
