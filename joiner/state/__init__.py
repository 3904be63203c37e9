"""What a shard of the join holds in memory."""
