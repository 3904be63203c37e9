"""Messages of binary formats, such as Avro and Protobuf, as records."""
