"""`cgckit bids`, which is called as BIDS-Apps are."""
