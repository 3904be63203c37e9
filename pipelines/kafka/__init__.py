"""Kafka: topics and their offsets, and clients that read partitions as columns."""
