"""The columns of K2's tables (``tables``) and the Avro schemas of its messages (``avro``)."""
