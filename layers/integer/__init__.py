"""Layers of the folded network, which compute in integers what the file computes."""
