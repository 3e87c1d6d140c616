"""The rules of runners, jobs and workspaces. Pure: state and events in, events out; no clock, no I/O, no randomness."""
