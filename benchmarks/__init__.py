"""Evidence that takes longer than a test: each script makes one file under results/."""
