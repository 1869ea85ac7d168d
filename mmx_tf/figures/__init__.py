"""The paper's figures, and the statistics in them."""
