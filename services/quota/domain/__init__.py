"""The rules of compute minutes. Pure integers: events in, charges and announcements out; no clock, no I/O."""
