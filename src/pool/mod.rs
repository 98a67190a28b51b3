//! Costly objects, kept and lent out.
