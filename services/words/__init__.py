"""What happens on the platform, and its numbers, in words for people: in the terminal, in the demo and on the page."""
