"""Commands that take in what other programs give, and give out what they take."""
