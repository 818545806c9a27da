"""Derives the Arrow schema in which a table's rows are written to Parquet."""

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema


def file_schema(schema: Schema) -> pa.Schema:
    """Return a table's columns with their field ids, of 32-bit texts and lists as K2's own rows have them.

    pyiceberg asks for 64-bit ones, which every row would be copied into, and out of again by whoever reads it.
    """
    return pa.schema([_narrow(field) for field in schema_to_pyarrow(schema)])


def _narrow(field: pa.Field) -> pa.Field:
    kind = field.type
    if pa.types.is_large_string(kind):
        return field.with_type(pa.string())
    if pa.types.is_large_binary(kind):
        return field.with_type(pa.binary())
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return field.with_type(pa.list_(_narrow(kind.value_field)))
    if pa.types.is_map(kind):
        return field.with_type(pa.map_(_narrow(kind.key_field), _narrow(kind.item_field)))
    return field
