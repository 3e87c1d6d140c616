"""The thin shell that every server shares: start and drain, health, reflection, who calls, how errors are told."""
