//! Child processes that cannot hang, leak or outlive their owner.
