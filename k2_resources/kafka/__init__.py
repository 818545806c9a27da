"""Kafka and the schema registry: topics, exact offset ranges read, trades sent, schemas asked for.

Start with ``topics``, then ``topic_reader`` and ``trade_producer``.
"""
