//! Holds the benches; see `benches/happy_path.rs`.
