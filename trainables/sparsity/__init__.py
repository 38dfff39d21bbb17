"""Masks attached to any module from outside, and the sparse generator that trains with them."""
