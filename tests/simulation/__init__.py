"""The tether under a virtual clock: real rules of box and platform, a simulated world around them."""
