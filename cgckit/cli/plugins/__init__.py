"""`cgckit plugins` and `cgckit priors`."""
