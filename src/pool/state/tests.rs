//! Single rules of the state.

use super::*;
