"""Kafka messages: trades to Avro, and Avro back to rows, one row a message whatever it holds.

The way in: ``framing`` and ``batch``, then ``block_decoder``, which reads blocks by ``block_reader`` and what those
refuse by ``reference_decoder``; ``row_resolution`` makes K2's fields of a writer's, ``row_admission`` refuses what is
no sane row, ``raw_rows`` makes the table. ``outgoing`` is the way out.
"""
