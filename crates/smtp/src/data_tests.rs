//! Tests of the data codec.
