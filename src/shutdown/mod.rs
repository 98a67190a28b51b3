//! An orderly end, within one deadline.
