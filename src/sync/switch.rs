//! What threads share comes from std, or from loom where its models run: see `model`.

#[cfg(not(mainstay_loom))]
mod chosen {
    pub(crate) use std::sync::{
        Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
    };
    pub(crate) use std::thread;

    /// A `const fn`; loom has no constants.
    macro_rules! constant {
        ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
            $(#[$meta])* $vis const fn $($rest)*
        };
    }

    /// A static; loom makes it anew for each run of a model. An array is written with one of
    /// its elements, which need not be `Copy`.
    macro_rules! global {
        (static $name:ident: [$of:ty; $number:ident] = [$each:expr; $same:ident];) => {
            static $name: [$of; $number] = [const { $each }; $same];
        };
        (static $name:ident: $of:ty = $value:expr;) => {
            static $name: $of = $value;
        };
    }

    pub(crate) use {constant, global};
}

#[cfg(mainstay_loom)]
mod chosen {
    pub(crate) use ::loom::sync::{
        Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic,
    };
    pub(crate) use ::loom::thread;

    macro_rules! constant {
        ($(#[$meta:meta])* $vis:vis const fn $($rest:tt)*) => {
            $(#[$meta])* $vis fn $($rest)*
        };
    }

    macro_rules! global {
        (static $name:ident: [$of:ty; $number:ident] = [$each:expr; $same:ident];) => {
            ::loom::lazy_static! {
                static ref $name: [$of; $number] = std::array::from_fn::<_, $same, _>(|_| $each);
            }
        };
        (static $name:ident: $of:ty = $value:expr;) => {
            ::loom::lazy_static! { static ref $name: $of = $value; }
        };
    }

    pub(crate) use {constant, global};
}

pub(crate) use chosen::*;
