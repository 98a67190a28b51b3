//! An orderly end, within one deadline.

mod component;

pub use component::{Component, Counts};
