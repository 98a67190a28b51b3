//! A value that is made when it is first asked for.
