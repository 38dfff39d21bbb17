"""What a network costs: counted without torch, or measured."""
