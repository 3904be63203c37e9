"""The durable side of a shard's join."""
