"""A fuzzer of inputs: cases, their files, and what the documents say becomes of them."""
