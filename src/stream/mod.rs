//! The patterns on streams.
