//! How important an item is.

/// How important an item is: what is higher begins first. Default 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub i32);

impl Priority {
    /// After everything ordinary.
    pub const LOW: Self = Self(-10);
    /// That of an item for which none was given.
    pub const NORMAL: Self = Self(0);
    /// Before everything ordinary.
    pub const HIGH: Self = Self(10);
}

impl From<i32> for Priority {
    fn from(level: i32) -> Self {
        Self(level)
    }
}
