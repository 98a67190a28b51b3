//! Tasks that end before their owner does.
